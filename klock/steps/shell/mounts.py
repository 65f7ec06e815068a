"""What a Dockerfile's RUN sees besides the tree: files of the build context, empty folders, secrets. No layer has any.

A cache begins anew at every run, empty or with the files of a stage: it can never change what a step makes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from klock.errors import KlockError
from klock.layers.normalisation import MTIME
from klock.lockfile.model import FileEntry, MountLock, ShellLock
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.temporary import MEMORY, temporary_folder
from klock.workshop.namespace import in_namespace
from klock.workshop.protocol import Mount
from klock.workshop.scratch import scratch_folder

__all__ = ["entries_of", "mounted_secrets", "mounts_of"]


def mounted_secrets(step: ShellLock, environ: Mapping[str, str]) -> dict[str, str]:
    """The values of the secrets that a step mounts, by the variable of `environ`, as far as they are set."""
    names = (mount.secret for mount in step.mounts if mount.kind == "secret")
    return {name: value for name in names if (value := environ.get(name))}


@contextmanager
def mounts_of(at: StepAt[ShellLock], context: Context) -> Iterator[list[Mount]]:
    """A step's mounts, until the end of the block. Raises KlockError for a required secret that is not set."""
    if not at.step.mounts:
        yield []
        return
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder(context.store))
        found = [
            mount
            for number, each in enumerate(at.step.mounts)
            if (mount := _mount(each, folder / f"mount-{number}", at, context, stack)) is not None
        ]
        yield found


def _mount(mount: MountLock, place: Path, at: StepAt[ShellLock], context: Context, stack: ExitStack) -> Mount | None:
    if mount.kind == "secret":
        return _secret(mount, at, context, stack)
    if mount.kind in ("bind", "cache") and mount.stage is not None:
        source = _files_of_stage(mount.stage, mount, place, at, context)
    elif mount.kind == "bind":
        source = _files(mount, place, at)
    else:
        place.mkdir()
        source = place
        _own(place, mount.uid, mount.gid, mount.mode if mount.kind == "cache" else 0o1777)
    return Mount(source=source, target=mount.target, read_only=mount.kind == "bind" and not mount.writable)


def _files(mount: MountLock, place: Path, at: StepAt[ShellLock]) -> Path:
    """The locked files of the build context, and no others, each compared with its hash."""
    from klock.pages.build_context import ContextFile, make_folders, write_file

    if at.source is None:
        raise at.failed(": the build context is needed to find the files that it mounts")
    make_folders(place, place)
    for entry in entries_of(mount, at.step):
        file = ContextFile(
            path=entry.path,
            mode=entry.mode,
            source=at.source / entry.path if entry.digest else None,
            digest=entry.digest,
            target=entry.target,
        )
        write_file(place, file)
    shown = place / mount.source
    if not shown.exists():
        make_folders(place, shown)
    for path in (place, *place.rglob("*")):
        os.utime(path, (MTIME, MTIME), follow_symlinks=False)
    return shown


def _files_of_stage(name: str, mount: MountLock, place: Path, at: StepAt[ShellLock], context: Context) -> Path:
    """What a stage holds there, as a copy, so that whatever a command does to it is nobody's."""
    from klock.workshop.protocol import TreeCopy

    stage = context.make_stage(name, at.lock)
    place.mkdir(mode=0o755)
    source = "/" + mount.source.strip("/")
    wanted = TreeCopy(
        name=name, base=stage.base.id, layers=stage.layers, sources=[source], destination="/shown", into=False
    )
    with at.named_in_errors():
        context.workshop.copy_out(wanted, place)
    return place / "shown"


def entries_of(mount: MountLock, step: ShellLock) -> list[FileEntry]:
    """The files of the build context that a mount shows."""
    if mount.source in ("", "."):
        return list(step.mounted)
    return [entry for entry in step.mounted if f"{entry.path}/".startswith(f"{mount.source}/")]


def _secret(mount: MountLock, at: StepAt[ShellLock], context: Context, stack: ExitStack) -> Mount | None:
    """In memory, since nothing of it may stay on the disk."""
    value = context.environ.get(mount.secret)
    if not value:
        if mount.required:
            raise KlockError(
                f"{at.name}: {mount.secret} must be set: the step mounts it as a secret",
                hint=f"export {mount.secret}=...",
            )
        return None
    if not mount.target:
        return None
    folder = stack.enter_context(temporary_folder("secret", within=MEMORY if os.access(MEMORY, os.W_OK) else None))
    file = folder / "secret"
    file.touch(mode=0o600)
    file.write_text(value, "utf-8", "surrogateescape")
    _own(file, mount.uid, mount.gid, mount.mode)
    return Mount(source=file, target=mount.target)


def _own(path: Path, uid: int, gid: int, mode: int) -> None:
    """Gives a path to ids of the environment."""

    def task() -> None:
        os.chown(path, uid, gid)
        path.chmod(mode)

    in_namespace(task)
