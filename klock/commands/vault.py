"""`klock vault`: a folder with every byte the lockfile names, for the day when upstream has moved on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from klock.commands.groups import Group
from klock.commands.options import image_argument, offline_option, open_project, with_progress
from klock.commands.printing import say, show
from klock.errors import StoreError
from klock.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from klock.lockfile.model import TargetLock
    from klock.session import Session
    from klock.vault import Transferred, VaultFolder

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["vault"]


class _Folder(click.Path):
    """A path, and no address: `Path` would make a folder `s3:` of one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if match := re.match(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://|[\w.+-]+@[\w.-]+:", str(value)):
            path = "/" + str(value)[match.end() :].lstrip("/") if match["scheme"] == "file" else None
            raise StoreError(
                f"{value} is not a folder, and a vault is one",
                hint=f"write {path}" if path else "name a folder, on a disk or on a network's file system: /srv/vault",
            )
        return super().convert(value, param, ctx)


def _common(command: F) -> F:
    folder = click.argument("folder", metavar="DIR", type=_Folder(file_okay=False, path_type=Path))
    target = click.option("--target", metavar="TARGET", help="Only this target. Default: all targets in the lockfile.")
    return folder(image_argument(target(with_progress(command))))


_dry_run = click.option("--dry-run", is_flag=True, help="List what would be copied; copy nothing.")
_verify = click.option("--verify", is_flag=True, help="Also verify what DIR has already, and replace damaged blobs.")


@click.group(cls=Group)
def vault() -> None:
    """Keep every byte the lockfile names in a folder, and get it back from there.

    DIR holds blobs by their SHA-256. Several projects and machines may share one.
    """


@vault.command()
@_common
@_dry_run
@_verify
@offline_option
def push(
    folder: Path,
    image: str | None,
    *,
    target: str | None,
    dry_run: bool,
    verify: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Copy what the lockfile needs into DIR.

    Fetches what this machine's store lacks first. Skips what DIR has already.
    """
    from klock.vault import VaultFolder
    from klock.vault import push as transfer

    session = open_project(image, offline=offline, progress=progress).session
    targets, there = _targets(session, target), VaultFolder(folder.absolute())
    with session.store.in_use():
        done = transfer(targets, there, session.context, verify=verify, dry_run=dry_run)
    return _report(done, dry_run=dry_run)


@vault.command()
@_common
@_dry_run
@_verify
def pull(
    folder: Path, image: str | None, *, target: str | None, dry_run: bool, verify: bool, progress: Progress
) -> int:
    """Copy what the lockfile needs from DIR into the store, verified. Opens no connection."""
    from klock.vault import pull as transfer

    session = open_project(image, progress=progress).session
    targets, there = _targets(session, target), _existing(folder)
    with session.store.in_use():
        done = transfer(targets, there, session.store, progress=progress, verify=verify, dry_run=dry_run)
    return _report(done, dry_run=dry_run)


@vault.command()
@_common
def check(folder: Path, image: str | None, *, target: str | None, progress: Progress) -> int:
    """Check that DIR has all that the lockfile needs, undamaged.

    Exit status: 0 when all is there, 1 with findings, 2 when klock cannot read DIR.
    """
    from klock.vault import find_faults, inputs_of_all
    from klock.words import counted, in_bytes

    session = open_project(image, progress=progress).session
    targets = _targets(session, target)
    faults = find_faults(targets, _existing(folder), progress=progress)
    for fault in faults:
        show(str(fault))
    if faults:
        say(counted(len(faults), "finding"))
        return 1
    inputs = inputs_of_all(targets)
    size = in_bytes(sum(item.size for item in inputs))
    say(f"{counted(len(inputs), 'blob')}, {size}, all there")
    return 0


def _targets(session: Session, name: str | None) -> Sequence[TargetLock]:
    lock = session.read_lockfile()
    return lock.targets if name is None else [session.locked_target(lock, name)]


def _existing(folder: Path) -> VaultFolder:
    from klock.vault import VaultFolder

    if not folder.is_dir():
        raise StoreError(f"there is no vault at {folder}", hint="make one: klock vault push DIR")
    return VaultFolder(folder.absolute())


def _report(done: Transferred, *, dry_run: bool) -> int:
    from klock.words import in_bytes

    for item in done.new if dry_run else ():
        show(f"{item.name} ({in_bytes(item.size)})")
    say(str(done))
    return 0
