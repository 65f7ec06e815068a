"""What `klock lock` does around the locking itself: what stays as it is, what may move, the policy, and the file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from klock.outcomes import Locked

# A lockfile that stays as it is takes little.
if TYPE_CHECKING:
    from collections.abc import Iterable

    from klock.lockfile.model import Lockfile
    from klock.session import Session
    from klock.steps.locking import Upgrade

__all__ = ["relock"]

_NEW = "what is new needs no --upgrade-package: `klock lock` locks it, `klock add NAME` adds it to the image"


def relock(
    session: Session,
    *,
    upgrade: bool,
    upgrade_packages: tuple[str, ...],
    upgrade_base: bool,
    keep_base: bool,
    strict: bool,
    exclude_newer: str | None,
    image_digest: bool,
    dry_run: bool,
) -> tuple[Locked, Session]:
    """The work of `klock.Project.lock`, whose options these are. Also returns the session, which has the image's
    further steps where its base turned out to have instructions for those who build on it."""
    from klock.lockfile import read

    previous = read(session.lockfile)
    asks_anew = upgrade or upgrade_base or upgrade_packages or strict or exclude_newer is not None
    if previous is not None and not asks_anew:
        notes = _notes_if_unchanged(session, previous, keep_base=keep_base)
        if notes is not None:
            _refuse_breaches(session, previous)
            _forget_failure(session)
            if image_digest:
                return _write(session, previous, previous, image_digest=True, dry_run=dry_run), session
            return Locked(
                lockfile=previous, path=session.lockfile, previous=previous, written=False, notes=tuple(notes)
            ), session

    from klock.packages.exclude_newer import read_moment
    from klock.steps.locking import Upgrade

    moment = read_moment(exclude_newer, what="exclude-newer") if exclude_newer is not None else None
    locked, session = _lock(
        session,
        previous,
        Upgrade(everything=upgrade, base=upgrade_base, packages=_known_names(upgrade_packages, previous)),
        keep_base=keep_base,
        strict=strict,
        exclude_newer=moment or session.settings.exclude_newer,
    )
    _refuse_breaches(session, locked)
    _forget_failure(session)
    return _write(session, locked, previous, image_digest=image_digest, dry_run=dry_run), session


def _lock(
    session: Session,
    previous: Lockfile | None,
    upgrade: Upgrade,
    *,
    keep_base: bool,
    strict: bool,
    exclude_newer: str | None,
) -> tuple[Lockfile, Session]:
    """Locks the image, once more for each base that turns out to have instructions for those who build on it."""
    from klock.errors import TriggersFound
    from klock.locking import lock_image
    from klock.logs import hinting_at_logs

    with session.store.in_use(), hinting_at_logs(session.context.progress):
        while True:
            context = replace(session.context, keep_base=keep_base, strict=strict, exclude_newer=exclude_newer)
            try:
                image, targets = session.loaded.image, session.targets
                return lock_image(image, targets, previous=previous, context=context, upgrade=upgrade), session
            except TriggersFound as found:
                session = session.with_triggers(found.base, found.triggers)


def _forget_failure(session: Session) -> None:
    if session.log_file.exists():
        from klock.logs import forget_failure

        forget_failure(session.log_file)


def _known_names(names: Iterable[str], previous: Lockfile | None) -> frozenset[str]:
    """The canonical names of the packages to upgrade. Raises KlockError for one that is not locked."""
    from packaging.utils import canonicalize_name

    from klock.errors import KlockError
    from klock.lockfile.model import CondaLock
    from klock.words import did_you_mean

    canonical = {canonicalize_name(name): name for name in names}
    targets = previous.targets if previous else ()
    known = {package.name for target in targets for package in target.packages}
    conda = (step for target in targets for step in target.steps if isinstance(step, CondaLock))
    known |= {canonicalize_name(package.name) for step in conda for package in step.packages}
    for name, as_written in canonical.items():
        if name not in known:
            hint = did_you_mean(name, known) or _NEW
            raise KlockError(f"--upgrade-package {as_written}: the lockfile has no such package", hint=hint)
    return frozenset(canonical)


def _write(
    session: Session, locked: Lockfile, previous: Lockfile | None, *, image_digest: bool, dry_run: bool
) -> Locked:
    from klock.lockfile import write

    if image_digest:
        from klock.registry.locked import with_image_digests

        with session.store.in_use():
            locked = with_image_digests(locked, session.context)
    written = not dry_run and locked != previous and write(locked, session.lockfile)
    return Locked(lockfile=locked, path=session.lockfile, previous=previous, written=written)


def _refuse_breaches(session: Session, lockfile: Lockfile) -> None:
    if session.settings.policy:
        from klock.checking import refuse_breaches

        refuse_breaches(session, lockfile)


def _notes_if_unchanged(session: Session, lock: Lockfile, *, keep_base: bool) -> list[str] | None:
    """What there is to say of the image's files, if the image still gives this lockfile; else None."""
    from klock.locking.staying import notes_if_unchanged

    notes = notes_if_unchanged(
        lock,
        session.loaded.image,
        session.targets,
        root=session.loaded.root,
        environ=session.environ,
        store=session.store,
        credential_files=session.settings.credential_files,
        exclude_newer=session.settings.exclude_newer,
        keep_base=keep_base,
    )
    for note in notes or ():
        session.progress.warn(note)
    return notes
