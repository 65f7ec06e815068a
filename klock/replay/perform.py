"""Performing one step of a lockfile in a workspace, the same way when locking and when replaying."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from klock.errors import HashMismatch, ImageError, LockfileError, StepFailed
from klock.lockfile.model import (
    AptLock,
    EnvLock,
    FilesLock,
    PipLock,
    ServiceLock,
    ShellLock,
    TargetLock,
)
from klock.plan import describe
from klock.replay.context import Context
from klock.replay.leaks import refuse_leaks
from klock.replay.recorded import replay_shell
from klock.replay.shell import service_command
from klock.replay.variables import revealed_variables, secret_values
from klock.secrets.masking import masked, masked_tail
from klock.secrets.references import reveal
from klock.workshop.protocol import PlacedFile, Workspace

if TYPE_CHECKING:
    from klock.packages import Credentials

__all__ = ["fetch_for", "index_credentials", "netrc_of", "perform", "try_service"]


def perform(lock: TargetLock, position: int, workspace: Workspace, context: Context) -> None:
    """Runs the step at `position` in `workspace`, which shows the base and all layers before it.

    Raises StepFailed naming the step and its builder line when it does not end well.
    """
    step = lock.steps[position]
    match step:
        case PipLock():
            _install_packages(lock, step, position, workspace, context)
        case AptLock():
            _install_debs(lock, step, position, workspace, context)
        case FilesLock():
            _place_files(step, position, workspace, context)
        case ShellLock():
            replay_shell(lock, position, workspace, context)
            return
        case EnvLock() | ServiceLock():
            raise TypeError(f"{type(step).__name__} makes no layer")
    refuse_leaks(lock, position, workspace, context)


def try_service(lock: TargetLock, position: int, workspace: Workspace, context: Context) -> None:
    """Starts the service at `position` and watches it for half a second. Raises StepFailed when it fails in it."""
    step = lock.steps[position]
    assert isinstance(step, ServiceLock)
    variables = revealed_variables(lock, len(lock.steps), context.environ)
    text = reveal(step.command, step.secrets, context.environ)
    completed = workspace.run_service(service_command(step, text, base=lock.base, variables=variables))
    if completed is not None and completed.status != 0:
        raise StepFailed(
            f"step {position + 1}{context.where(position)}: the service ended with status {completed.status} "
            f"within 0.5 s: {describe(step)}" + masked_tail(completed.output, secret_values(lock, context)),
            hint="to see all it prints, drop the & at its end and run `klock lock -v`: it is a step like others then",
        )


def _place_files(step: FilesLock, position: int, workspace: Workspace, context: Context) -> None:
    from klock.files.local import placed_files

    source = context.sources.get(position)
    if source is None:
        raise StepFailed(f"step {position + 1}: the image is needed to find the files of {describe(step)}")
    try:
        workspace.place(placed_files(step.entries, source), step.destination)
    except ImageError as error:
        raise StepFailed(f"step {position + 1}{context.where(position)}: {error.message}", hint=error.hint) from error
    except HashMismatch as error:
        raise StepFailed(
            f"step {position + 1}{context.where(position)}: {error.message}",
            hint="the file changed after it was locked: run `klock lock`",
        ) from error
    if step.path_file is not None:
        _place_path_file(step, workspace, context)


def _place_path_file(step: FilesLock, workspace: Workspace, context: Context) -> None:
    """The `.pth` file that puts a synced package on Python's path (the `site` module's format)."""
    assert step.path_file is not None
    content = "".join(f"{path}\n" for path in step.import_paths).encode()
    digest = context.store.add_bytes(content)
    file = PlacedFile(path="", mode=0o644, source=context.store.blob_path(digest), digest=digest)
    workspace.place([file], step.path_file)


def _install_packages(lock: TargetLock, step: PipLock, position: int, workspace: Workspace, context: Context) -> None:
    from klock.packages import install

    if lock.interpreter is None:
        raise LockfileError("the lockfile has a pip step and no python table", hint="run `klock lock`")
    variables = revealed_variables(lock, position, context.environ)
    credentials = fetch_for(lock, position, context)
    install(
        step,
        lock.packages,
        interpreter=lock.interpreter,
        workspace=workspace,
        store=context.store,
        variables=variables,
        credentials=credentials,
        offline=context.offline,
        over=(lock.base.id, *replace(lock, steps=lock.steps[:position]).layers) if context.over_locked_base else None,
    )


def fetch_for(lock: TargetLock, position: int, context: Context) -> Credentials | None:
    """Brings the packages of a pip or apt step into the store; for pip it says who klock was to their indexes."""
    step = lock.steps[position]
    if isinstance(step, AptLock):
        from klock.debian.install import fetch_debs

        fetch_debs(
            step.debs,
            store=context.store,
            mirrors=context.mirrors,
            offline=context.offline,
            progress=context.progress,
        )
        return None
    from klock.packages import fetch_packages, packages_of

    assert isinstance(step, PipLock)
    credentials = index_credentials(lock, [position], context)
    fetch_packages(
        packages_of(step, lock.packages),
        store=context.store,
        all_packages=lock.packages,
        credentials=credentials,
        offline=context.offline,
        progress=context.progress,
    )
    return credentials


def index_credentials(lock: TargetLock, positions: Iterable[int], context: Context) -> Credentials:
    """Who klock is to the package indexes that the pip steps at `positions` name."""
    from klock.packages import Credentials

    environments, urls = [], []
    for position in positions:
        step = lock.steps[position]
        assert isinstance(step, PipLock)
        environments.append(revealed_variables(lock, position, context.environ))
        for line in (*step.requirements, *_lines_of_files(step, context)):
            urls += [word for word in reveal(line, step.secrets, context.environ).split() if "://" in word]
    return Credentials.collect(environments=environments, urls=urls, netrc=netrc_of(context.environ))


def _lines_of_files(step: PipLock, context: Context) -> list[str]:
    """The lines of the step's requirements files, whose index URLs may say where credentials are."""
    files = [context.root / file.path for file in step.files]
    return [line for file in files if file.is_file() for line in file.read_text("utf-8", "replace").splitlines()]


def netrc_of(environ: Mapping[str, str]) -> Path | None:
    """The netrc file that curl, pip and uv would read."""
    path = Path(environ["NETRC"]) if environ.get("NETRC") else Path(environ.get("HOME") or "/") / ".netrc"
    return path if path.is_file() else None


def _install_debs(lock: TargetLock, step: AptLock, position: int, workspace: Workspace, context: Context) -> None:
    from klock.debian.install import install_apt

    fetch_for(lock, position, context)
    with masked(context.progress.output, secret_values(lock, context)) as on_output:
        install_apt(
            workspace,
            step,
            store=context.store,
            environment=revealed_variables(lock, position, context.environ),
            on_output=on_output,
            where=f"step {position + 1}{context.where(position)}",
        )
