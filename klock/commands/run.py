"""`klock run`: run a command in the environment."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from klock.commands.session import (
    Session,
    engine_option,
    gpus_option,
    offline_option,
    open_session,
    progress_options,
    target_option,
)
from klock.errors import KlockError
from klock.lockfile.model import ServiceLock, TargetLock
from klock.progress import Progress

if TYPE_CHECKING:
    from klock.gpu.edits import ContainerEdits

__all__ = ["run"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--image", metavar="FILE[:NAME]", help="The image, when it is not kimage.py.")
@click.option("-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable, for services too.")
@click.option(
    "-m", "--mount", "mounts", multiple=True, metavar="SOURCE:TARGET[:ro]", help="Show a host path in the environment."
)
@click.option("-w", "--workdir", metavar="PATH", help="The working directory, when it is not the image's.")
@click.option("--no-sync", is_flag=True, help="Use the environment as it is.")
@click.option("--frozen", is_flag=True, help="Use the lockfile as it is, even if the image has changed.")
@target_option
@engine_option
@gpus_option
@offline_option
@progress_options
def run(
    command: tuple[str, ...],
    *,
    image: str | None,
    variables: tuple[str, ...],
    mounts: tuple[str, ...],
    workdir: str | None,
    no_sync: bool,
    frozen: bool,
    target: str | None,
    engine: str | None,
    gpus: str | None,
    offline: bool,
    progress: Progress,
) -> int:
    """Run COMMAND in the environment: its variables, working directory and services. Exits with COMMAND's status.

    An environment that is not the locked one is synced first. Write `--` before a command that has options.
    """
    from klock.replay.shell import service_command
    from klock.replay.variables import revealed_variables
    from klock.workshop.protocol import Command, Mount, Network

    session = open_session(image, offline=offline, progress=progress, engine=engine)
    lock = session.read_lockfile()
    locked = session.locked_target(lock, target)
    session = session.with_engine(locked)
    devices = _devices(session, locked, gpus)
    environment = session.engine.environment(session.environment_name(locked))
    if session.engine.name in ("podman", "docker"):
        from klock.places.containers.environment import ContainerEnvironment

        # Before a sync would take the name back: somebody may want to know what became of the environment.
        assert isinstance(environment, ContainerEnvironment)
        environment.refuse_another_image()
    if no_sync:
        if environment.record is None:
            raise KlockError("there is no environment yet", hint="run `klock sync`")
    else:
        if not frozen:
            from klock.commands.judge import refuse_stale

            refuse_stale(session, lock)
        if (environment.record or {}).get("fingerprint") != locked.fingerprint:
            from klock.commands.sync import sync_environment

            sync_environment(session, lock, locked)
    values = revealed_variables(locked, len(locked.steps), session.environ)
    if session.engine.name == "here":
        # The container has variables of its own, as its pod's definition gives them.
        from klock.places.here.surroundings import own_variables

        values = {**own_variables(session.environ), **values}
    # Else every import of a module without a .pyc would be drift.
    values.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    if (term := session.environ.get("TERM")) is not None:
        values.setdefault("TERM", term)
    values.update(_parse_variable(text) for text in variables)
    parsed = (Mount(source=s, target=t, read_only=r) for s, t, r in map(_parse_mount, mounts))
    # Folders before what is shown in them, whatever the order of the options: so do podman and docker.
    shown = tuple(sorted(parsed, key=lambda mount: posixpath.normpath(mount.target).count("/")))
    for number, mount in enumerate(shown):
        if any(posixpath.normpath(mount.target) == posixpath.normpath(other.target) for other in shown[:number]):
            raise KlockError(f"--mount: two things for {mount.target}", hint="choose another target for one of them")
    with session.engine.without_hooks(devices, base=locked.base.id, layers=locked.layers) as edits:
        for name, value in edits.environment.items():
            # A list of folders to look in, of which the image may have some of its own.
            before = values.get(name) if name == "LD_LIBRARY_PATH" else None
            values[name] = f"{before}:{value}" if before else value
        services = [
            service_command(step, text, base=locked.base, variables=dict(values))
            for step, text in _services(session, locked)
        ]
        return environment.execute(
            Command(
                argv=command,
                environment=values,
                working_dir=posixpath.join(locked.base.working_dir, workdir) if workdir else locked.base.working_dir,
                # The image's own is made, as by podman and docker; another one may be a mistake, and would be drift.
                makes_working_dir=not workdir,
                user=locked.base.user,
                network=Network.HOST,
                mounts=shown,
                devices=edits,
            ),
            services=[replace(service, devices=edits) for service in services],
        )


def _devices(session: Session, locked: TargetLock, gpus: str | None) -> ContainerEdits:
    """What the command needs to see its GPUs. Raises EngineError when this machine has not what is locked."""
    from klock.gpu.edits import ContainerEdits
    from klock.gpu.requirements import cuda_of

    if gpus is None and cuda_of(locked.target.accelerator) is None:
        return ContainerEdits()
    from klock.gpu.choice import devices_of, refuse_if_unable

    refuse_if_unable(locked, gpus)
    if session.engine.name == "here":
        if gpus not in (None, "none"):
            raise KlockError("--gpus: a running container has the devices it was started with", hint="leave it out")
        return ContainerEdits()
    devices = devices_of(locked, gpus)
    return devices.edits if devices else ContainerEdits()


def _services(session: Session, locked: TargetLock) -> list[tuple[ServiceLock, str]]:
    from klock.secrets.references import reveal

    environ = session.environ
    return [(s, reveal(s.command, s.secrets, environ)) for s in locked.steps if isinstance(s, ServiceLock)]


def _parse_variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        hint = f'for a variable of your shell: -e {name}="${name}"' if name else "write -e NAME=VALUE"
        raise KlockError(f"--env {text!r} is not NAME=VALUE", hint=hint)
    return name, value


def _parse_mount(text: str) -> tuple[Path, str, bool]:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise KlockError(f"--mount {text!r} is not SOURCE:TARGET or SOURCE:TARGET:ro", hint="TARGET must be absolute")
    if not target.strip("/"):
        raise KlockError(f"--mount {text!r} would hide the environment", hint="choose a folder in it: SOURCE:/mnt/data")
    path = Path(source).expanduser().absolute()
    if not path.exists():
        raise KlockError(f"--mount {text!r}: there is no {path}", hint=f"make it first: mkdir {path}")
    return path, target, mode == "ro"
