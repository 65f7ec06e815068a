"""`klock vault`: a folder with every byte the lockfile names, for the day when upstream has moved on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from klock.commands.groups import Group
from klock.commands.options import image_argument, offline_option, open_project, with_progress
from klock.printing import say, show
from klock.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from klock.lockfile.model import TargetLock
    from klock.session import Session
    from klock.vault import Transferred, Vault

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["vault"]


def _common(command: F) -> F:
    where = click.argument("where", metavar="DIR|ADDRESS")
    target = click.option("--target", metavar="TARGET", help="Only this target. Default: all targets in the lockfile.")
    return where(image_argument(target(with_progress(command))))


_dry_run = click.option("--dry-run", is_flag=True, help="List what would be copied; copy nothing.")
_verify = click.option("--verify", is_flag=True, help="Also verify what is there already, and replace damaged blobs.")


@click.group(cls=Group)
def vault() -> None:
    """Keep every byte the lockfile names in a folder, and get it back from there.

    A vault holds blobs by their SHA-256. Several projects and machines may share one. DIR is a folder, ADDRESS a
    repository of a registry (oci://REGISTRY/NAME) or an object store (s3://BUCKET/FOLDER).
    """


@vault.command()
@_common
@_dry_run
@_verify
@offline_option
def push(
    where: str,
    image: str | None,
    *,
    target: str | None,
    dry_run: bool,
    verify: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Copy what the lockfile needs into a vault.

    First fetches what this machine's store lacks. Skips what the vault has already.
    """
    from klock.vault import push as transfer

    session = open_project(image, offline=offline, progress=progress).session
    targets, there = _targets(session, target), _vault(where, session, writes=True)
    with session.store.in_use():
        done = transfer(targets, there, session.context, verify=verify, dry_run=dry_run)
    return _report(done, dry_run=dry_run)


@vault.command()
@_common
@_dry_run
@_verify
def pull(where: str, image: str | None, *, target: str | None, dry_run: bool, verify: bool, progress: Progress) -> int:
    """Copy what the lockfile needs from a vault into the store, verified. Contacts nothing else."""
    from klock.vault import pull as transfer

    session = open_project(image, progress=progress).session
    targets, there = _targets(session, target), _vault(where, session)
    with session.store.in_use():
        done = transfer(targets, there, session.store, progress=progress, verify=verify, dry_run=dry_run)
    return _report(done, dry_run=dry_run)


@vault.command()
@_common
def check(where: str, image: str | None, *, target: str | None, progress: Progress) -> int:
    """Check that a vault has all that the lockfile needs, undamaged.

    Exit status: 0 when all is there, 1 with findings, 2 when klock cannot read the vault.
    """
    from klock.vault import find_faults, inputs_of_all
    from klock.words import counted, in_bytes

    session = open_project(image, progress=progress).session
    targets = _targets(session, target)
    faults = find_faults(targets, _vault(where, session), progress=progress)
    for fault in faults:
        show(str(fault))
    if faults:
        say(counted(len(faults), "finding"))
        say(f"hint: fill it from the store and from upstream: klock vault push --verify {where}")
        return 1
    inputs = inputs_of_all(targets)
    size = in_bytes(sum(item.size for item in inputs))
    say(f"{counted(len(inputs), 'blob')}, {size}, all there")
    return 0


def _targets(session: Session, name: str | None) -> Sequence[TargetLock]:
    lock = session.read_lockfile()
    return lock.targets if name is None else [session.locked_target(lock, name)]


def _vault(where: str, session: Session, *, writes: bool = False) -> Vault:
    """The vault that a user names; one to read from must be there."""
    from klock.vault import open_vault

    found = open_vault(where, mirrors=session.context.mirrors, writes=writes)
    if not writes:
        found.check()
    return found


def _report(done: Transferred, *, dry_run: bool) -> int:
    from klock.words import in_bytes

    for item in done.new if dry_run else ():
        show(f"{item.name} ({in_bytes(item.size)})")
    say(str(done))
    return 0
