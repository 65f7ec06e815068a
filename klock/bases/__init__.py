"""Base images: a name is resolved to digests when locking, and digests are fetched when replaying.

RegistryBase --registry--.
LayoutBase   --layout----+--> OciLock     --> the layers' blobs in the store --> the workshop's unpacked base
DebianBase   --klock.debian-> DebianLock  --> .debs in the store -> a tree made of them only --> the same
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from klock.bases.passwd import home_of, is_root
from klock.errors import KlockError
from klock.fetching.mirrors import Mirrors
from klock.image.steps import Base, DebianBase, RegistryBase
from klock.lockfile.model import BaseLock, DebianLock, OciLock
from klock.progress import Progress, Quiet
from klock.store import Store
from klock.targets import Target
from klock.workshop.protocol import Workshop

__all__ = ["fetch_base", "remake_base", "resolve_base"]


def resolve_base(
    base: Base,
    *,
    target: Target,
    root: Path,
    store: Store,
    workshop: Workshop,
    mirrors: Mirrors | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> BaseLock:
    """Looks a base up now. Whoever has a lock already and does not want it to move does not call this.

    `root` is the folder of the image's file, which layout paths are relative to. The workshop is needed where a base
    can only be described once its files are there: a Debian tree, and the home folder of a user other than root.
    Raises FetchError, ImageError, ResolutionError or EngineError, with the builder call's place in the message.
    """
    mirrors, progress = mirrors or Mirrors(), progress or Quiet()
    try:
        if isinstance(base, DebianBase):
            from klock.debian.base import resolve_debian

            return resolve_debian(
                base, target=target, store=store, workshop=workshop, mirrors=mirrors, offline=offline, progress=progress
            )
        from klock.bases.images import resolve_image

        written = base.reference if isinstance(base, RegistryBase) else f"oci:{base.path}"
        progress.begin(f"resolve {written}")
        lock = resolve_image(
            base, target=target, root=root, mirrors=mirrors, store=store, offline=offline, progress=progress
        )
        progress.done(lock.manifest.digest)
        if dict(lock.environment).get("HOME"):
            return dataclasses.replace(lock, has_home=lock.settings is None)
        home = "/root"
        if not is_root(lock.user):
            fetch_base(
                lock, workshop=workshop, store=store, root=root, mirrors=mirrors, offline=offline, progress=progress
            )
            with workshop.open(lock.id, []) as workspace:
                home = home_of(lock.user, workspace.read("/etc/passwd") or b"")
        if lock.settings is not None:
            return dataclasses.replace(lock, settings=dataclasses.replace(lock.settings, home=home))
        others = (variable for variable in lock.environment if variable[0] != "HOME")
        return dataclasses.replace(lock, environment=(*others, ("HOME", home)))
    except KlockError as error:
        raise _located(error, base, root) from error


def remake_base(
    lock: DebianLock,
    *,
    workshop: Workshop,
    store: Store,
    mirrors: Mirrors | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> BaseLock:
    """A base that was locked by older rules, with the same packages, by the present ones.

    Raises FetchError when a package cannot be had any more.
    """
    from klock.debian.base import remake_debian

    return remake_debian(
        lock,
        workshop=workshop,
        store=store,
        mirrors=mirrors or Mirrors(),
        offline=offline,
        progress=progress or Quiet(),
    )


def fetch_base(
    lock: BaseLock,
    *,
    workshop: Workshop,
    store: Store,
    root: Path,
    mirrors: Mirrors | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> None:
    """Makes `workshop.has_base(lock.id)` true, with what is missing fetched by digest and verified.

    Raises FetchError when upstream has it no longer, HashMismatch when what there is is not what was locked.
    """
    mirrors, progress = mirrors or Mirrors(), progress or Quiet()
    match lock:
        case OciLock():
            from klock.bases.images import fetch_image

            fetch_image(
                lock, workshop=workshop, root=root, mirrors=mirrors, store=store, offline=offline, progress=progress
            )
        case DebianLock():
            from klock.debian.base import fetch_debian

            fetch_debian(lock, workshop=workshop, mirrors=mirrors, store=store, offline=offline, progress=progress)


def _located(error: KlockError, base: Base, root: Path) -> KlockError:
    """The same error with the builder call's place before its message."""
    if base.location is None or error.message.startswith(place := base.location.below(root)):
        return error
    return type(error)(f"{place}: {error.message}", hint=error.hint)
