"""The verbs that only look: what changed between two lockfiles, why something is there, all of it as a tree.

They change nothing, run nothing of an image, and use no network. As in `klock.api`, nothing is printed.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from klock.errors import KlockError, LockfileError
from klock.session import Options, Session, open_session, refuse_unknown
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.api import ImageSource, Project
    from klock.inventory.changes import Difference
    from klock.inventory.reasons import Reason, Requires
    from klock.inventory.trees import Node
    from klock.lockfile.model import Lockfile, TargetLock
    from klock.status import Status, StoreStatus

__all__ = ["Log", "diff", "diff_environment", "logs_of", "status", "status_of_store", "tree", "why"]


def diff(
    before: str | os.PathLike[str] | None = None,
    after: str | os.PathLike[str] | None = None,
    *,
    image: str | os.PathLike[str] | None = None,
    **options: Unpack[Options],
) -> Difference:
    """What the lockfile `after` has otherwise than `before`.

    Each is a lockfile or a revision of git. Without `after` it is the lockfile as it is now, without `before` that of
    the last commit (`HEAD`). Raises KlockError for what is neither.
    """
    from klock.inventory.changes import compare

    file = _lockfile(image, options)
    new = _read(file) if after is None else _named(after, file)
    return compare(_named(before, file), new)


def why(
    name: str,
    image: ImageSource = None,
    *,
    target: str | None = None,
    **options: Unpack[Options],
) -> list[Reason]:
    """What brings `name` into the environment: a package, a path, a variable, a setting, a part of a URL.

    Each reason has the builder's line, and for a package the chains of requirements that lead to it. Paths that no
    lockfile names are looked up in the store, as far as it has the layers. Raises KlockError when nothing has the name.
    """
    from klock.inventory.reasons import Lines, Reason, names_in, reasons, where
    from klock.steps.parts import Part, Sort

    session = open_session(image, **options)
    lock = session.locked_target(session.read_lockfile(), target)
    lines = Lines(steps=session.loaded.locations, base=session.loaded.base_location)
    found = reasons(name, lock, _requires(lock, session), lines)
    if not found and name.startswith("/"):
        from klock.inventory.owners import owner_of
        from klock.places.layered import why_not_in_store

        if (missing := why_not_in_store(lock, session.workshop)) is not None:
            raise KlockError(f"to say who brings {name}, klock needs the layers: {missing}")
        owner = owner_of(name, lock, session.workshop)
        if owner is not None:
            part = Part(sort=Sort.FILE, name=f"/{owner.entry.path}", value=owner.value, size=owner.entry.size)
            place = where(owner.position, lock, lines)
            found = [Reason(part=part, where=place, note=f"of {owner.package}" if owner.package else "")]
    if not found:
        from klock.words import did_you_mean

        meant = did_you_mean(name, names_in(lock))
        raise KlockError(f"nothing in {session.lockfile.name} is called {name!r}", hint=meant or "see `klock tree`")
    return found


def tree(
    image: ImageSource = None, *, target: str | None = None, everything: bool = True, **options: Unpack[Options]
) -> Node:
    """All that a target is made of: the base, the steps, what each brings, packages below those that ask for them.

    Without `everything`, Debian packages that nobody asks for are only counted.
    """
    from klock.inventory.reasons import Lines
    from klock.inventory.trees import tree_of

    session = open_session(image, **options)
    lock = session.locked_target(session.read_lockfile(), target)
    lines = Lines(steps=session.loaded.locations, base=session.loaded.base_location)
    return tree_of(lock, _requires(lock, session), lines, everything=everything)


def status(image: ImageSource = None, **options: Unpack[Options]) -> Status:
    """What is here: the lockfile and the environments of an image, and whether they agree."""
    from klock.status import status_of

    return status_of(open_session(image, **options))


def status_of_store(store: str | os.PathLike[str] | None = None) -> StoreStatus:
    """All environments that a store knows of, by default the user's own, and what takes how much space there."""
    from klock.status import status_of_store as status_of_all
    from klock.store import Store
    from klock.workshop import SandboxWorkshop

    opened = Store() if store is None else Store(Path(store).absolute())
    return status_of_all(opened, SandboxWorkshop(opened))


def _requires(lock: TargetLock, session: Session) -> Requires:
    from klock.inventory.owners import debs_require
    from klock.inventory.reasons import Requires

    packages = {package.name: package.dependencies for package in lock.packages if not package.build_only}
    return Requires(packages=packages, debs=debs_require(lock, session.workshop))


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What steps or services printed; credentials that klock knows of are `***`."""

    text: bytes
    of_services: bool


def logs_of(project: Project) -> list[Log]:
    """What steps printed the last time that they ran here, and the services of each environment."""
    from klock.lockfile import read
    from klock.places import DEFAULT, PLACES
    from klock.places.records import service_log
    from klock.secrets.masking import mask_known

    session = project.session
    found = []
    with contextlib.suppress(OSError):
        found.append(Log(text=session.log_file.read_bytes(), of_services=False))
    lock = read(session.lockfile)
    for locked in lock.targets if lock is not None else ():
        name = session.goal(lock, locked).name if lock is not None else ""
        secrets = tuple(session.context.secret_values(locked))
        for place in PLACES:
            with contextlib.suppress(OSError):
                if printed := service_log(session.store, place, name).read_bytes():
                    where = "" if place == DEFAULT else f" on {place}"
                    heading = f"==> services of {locked.target}{where} <==\n"
                    text = heading + mask_known(printed.decode("utf-8", "replace"), secrets)
                    found.append(Log(text=text.encode("utf-8", "replace"), of_services=True))
    return found


def diff_environment(project: Project, *, target: str | None = None) -> Difference:
    """What `klock sync` would change: what the lockfile has otherwise than the one that the environment was synced
    from, or else, where that is the same, the files and variables that are no longer what was synced.

    Raises KlockError where there is no environment.
    """
    from klock.inventory.changes import Difference, compare
    from klock.places.records import synced_lock

    session = project.session
    lock = session.read_lockfile()
    locked = session.locked_target(lock, target)
    goal = session.goal(lock, locked)
    place = session.place_of(goal)
    synced = place.synced(goal.name)
    if synced is None:
        raise KlockError("there is no environment yet", hint="run `klock sync`")
    if synced == locked.fingerprint:
        found = project.check(environment=True, target=target).findings
        return Difference(drift=tuple(finding for finding in found if finding.code.value.startswith("drift-")))
    before = synced_lock(session.store, place.name, goal.name, locked.target, synced)
    if before is None:
        raise KlockError(
            "the environment was synced from another lockfile, which is gone", hint="run `klock sync`, then compare"
        )
    return compare(before, replace(lock, targets=(locked,)))


def _lockfile(image: str | os.PathLike[str] | None, options: Options) -> Path:
    """The lockfile of an image, which is not loaded."""
    from klock.image.loading import lockfile_of
    from klock.project import find_image

    refuse_unknown(options)
    if (lockfile := options.get("lockfile")) is not None:
        return Path(lockfile).absolute()
    return lockfile_of(find_image(None if image is None else os.fspath(image)))


def _named(name: str | os.PathLike[str] | None, file: Path) -> Lockfile:
    from klock.revisions import lockfile_in

    if name is None:
        return lockfile_in(None, file)
    path = Path(name)
    return _read(path.absolute()) if path.is_file() else lockfile_in(os.fspath(name), file)


def _read(file: Path) -> Lockfile:
    from klock.lockfile import read

    lock = read(file)
    if lock is None:
        raise LockfileError(f"there is no {file.name} in {file.parent}", hint="run `klock lock`")
    return lock
