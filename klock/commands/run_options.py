"""What `klock run` and `klock shell` have in common: how a command runs in the environment."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from klock.commands.options import (
    engine_option,
    frozen_option,
    gpus_option,
    image_option,
    offline_option,
    open_project,
    target_option,
    with_progress,
)
from klock.errors import KlockError
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.api import Project
    from klock.progress import Progress

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["RunOptions", "run_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options as they were given."""

    variables: Mapping[str, str]
    mounts: tuple[str, ...]
    workdir: str | None
    network: str
    no_sync: bool
    frozen: bool
    wait_for: tuple[str, ...]
    wait_timeout: int | None
    target: str | None
    engine: str | None
    gpus: str | None
    devices: tuple[str, ...]
    host_pid: bool
    host_ipc: bool
    shm_size: str | None
    offline: bool

    def open(self, image: str | None, progress: Progress) -> Project:
        return open_project(image, offline=self.offline, progress=progress, engine=self.engine)

    def run(self, project: Project, command: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
        """Runs the command, with `variables` under those that were asked for. Returns its status."""
        from klock.commands.quick import look_before_run

        project.on_start = functools.partial(look_before_run, project.session)
        done = project.run(
            command,
            variables={**(variables or {}), **self.variables},
            mounts=self.mounts,
            working_dir=self.workdir,
            network=self.network,
            target=self.target,
            gpus=self.gpus,
            devices=self.devices,
            host_pid=self.host_pid,
            host_ipc=self.host_ipc,
            shm_size=self.shm_size,
            sync=not self.no_sync,
            frozen=self.frozen,
            takes_over=True,
            wait_for=self.wait_for,
            wait_seconds=self.wait_timeout,
        )
        return done.returncode


_OPTIONS = (
    image_option,
    click.option(
        "-e",
        "--env",
        "variables",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Set a variable, for services too. NAME alone: as in your shell. 'X_*': all whose names begin with X_.",
    ),
    click.option(
        "-m", "--mount", "mounts", multiple=True, metavar="SOURCE:TARGET[:ro]", help="Mount a host file or folder."
    ),
    click.option("-w", "--workdir", metavar="PATH", help="The working directory. Default: the image's."),
    click.option(
        "--network",
        type=click.Choice(["host", "none"]),
        default="host",
        help="What the command and the services can reach: all that this machine can, or nothing. Default: host.",
    ),
    click.option(
        "--wait-for",
        multiple=True,
        metavar="PORT|COMMAND",
        help="Start the command when, in the environment, a server listens on PORT or COMMAND succeeds.",
    ),
    click.option(
        "--wait-timeout",
        type=click.IntRange(min=1),
        metavar="SECONDS",
        help="The longest time to wait for services. Default: 60.",
    ),
    click.option("--no-sync", is_flag=True, help="Do not sync the environment first."),
    frozen_option,
    target_option,
    engine_option,
    gpus_option,
    click.option(
        "--device",
        "devices",
        multiple=True,
        metavar="/dev/PATH|NAME",
        help="Show a device of the machine: a path, or its CDI name, vendor.com/class=name.",
    ),
    click.option("--host-pid", is_flag=True, help="Give the command the machine's process ids, and show it /proc."),
    click.option("--host-ipc", is_flag=True, help="Share memory with processes outside: /dev/shm and System V IPC."),
    click.option("--shm-size", metavar="SIZE", help="Give the command a /dev/shm of its own, as large as 512m or 8g."),
    offline_option,
    with_progress,
)


def run_options(command: F) -> F:
    """The options, joined into one keyword argument, `how`; beside `image` and `progress`."""

    @functools.wraps(command)
    def with_options(
        *args: Any, image: str | None, progress: Progress, variables: tuple[str, ...], command: Any = None, **given: Any
    ) -> Any:
        how = RunOptions(variables=_parse_variables(variables), **given)
        words = {} if command is None else {"command": command}
        return wrapped(*args, image=image, how=how, progress=progress, **words)

    wrapped, decorated = command, cast(Any, with_options)
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return cast("F", decorated)


def _parse_variables(texts: Sequence[str]) -> dict[str, str]:
    """As docker reads `--env`: a name alone passes on the variable of klock's own process, if that is set; a pattern
    all that it matches."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise KlockError(f"--env {text!r} has no name", hint="write -e NAME=VALUE, or -e NAME")
        if equals:
            found[name] = value
        elif "*" in name or "?" in name:
            from klock.launchers import matching

            found.update(matching([name], os.environ))
        elif name in os.environ:
            found[name] = os.environ[name]
    return found
