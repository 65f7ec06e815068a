"""Bases made from the Debian archive: resolved to hashed .debs when locking, made of exactly those when replaying."""

from __future__ import annotations

import dataclasses
from typing import Final

from klock.bases.mirrors import Mirrors
from klock.debian.apt_root import resolve_suite
from klock.debian.bootstrap import bootstrap, check_host
from klock.debian.fetch import fetch_debs
from klock.errors import FetchError, HashMismatch
from klock.image.steps import DebianBase
from klock.lockfile.model import DebianLock
from klock.progress import Progress
from klock.store import Store
from klock.targets import Target
from klock.workshop.protocol import BaseLayer, Workshop

__all__ = ["fetch_debian", "resolve_debian"]

_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
_TREES: Final = "debian-trees"
_UNKNOWN: Final = "sha256:" + "0" * 64
_ENVIRONMENT: Final = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
)


def resolve_debian(
    base: DebianBase,
    *,
    target: Target,
    store: Store,
    workshop: Workshop,
    mirrors: Mirrors,
    offline: bool,
    progress: Progress,
) -> DebianLock:
    """The newest packages of the suite, and the digest of the tree they make, which the workshop has afterwards.

    Raises ResolutionError, FetchError, EngineError.
    """
    if offline:
        raise FetchError(
            f"Debian {base.suite} cannot be resolved offline", hint="run the command once without --offline"
        )
    check_host(target.architecture)
    progress.begin(f"resolve Debian {base.suite}")
    debs = resolve_suite(
        base.suite,
        base.packages,
        architecture=target.architecture,
        archives=mirrors.debian,
        ca_bundle=mirrors.ca_bundle,
    )
    progress.done(f"{len(debs)} packages")
    unverified = DebianLock(
        suite=base.suite, packages=base.packages, debs=debs, tree=_UNKNOWN, environment=_ENVIRONMENT
    )
    recorded = store.read_record(_TREES, unverified.id)
    if isinstance(recorded, str) and workshop.has_base((lock := dataclasses.replace(unverified, tree=recorded)).id):
        return lock
    return _make(unverified, workshop=workshop, store=store, mirrors=mirrors, offline=offline, progress=progress)


def fetch_debian(
    lock: DebianLock, *, workshop: Workshop, store: Store, mirrors: Mirrors, offline: bool, progress: Progress
) -> None:
    """Makes the workshop have the tree. Raises HashMismatch when the locked packages make another one here."""
    if not workshop.has_base(lock.id):
        _make(lock, workshop=workshop, store=store, mirrors=mirrors, offline=offline, progress=progress)


def _make(
    lock: DebianLock, *, workshop: Workshop, store: Store, mirrors: Mirrors, offline: bool, progress: Progress
) -> DebianLock:
    """Makes the tree of the locked packages; the lock with the tree's digest, which must be the locked one if known.

    A base's id tells its tree, which is known only when the workshop has unpacked it: so the tree is added under an id
    without it first, and under its own once it is the right one.
    """
    fetch_debs(
        lock.debs, task=f"fetch Debian {lock.suite}", store=store, mirrors=mirrors, offline=offline, progress=progress
    )
    unverified = dataclasses.replace(lock, tree=_UNKNOWN)
    progress.begin(f"make Debian {lock.suite} of {len(lock.debs)} packages")
    with bootstrap(lock.suite, lock.debs, store=store) as (archive, digest):
        layers = [BaseLayer(path=archive, media_type=_TAR, diff_id=digest)]
        manifest = workshop.add_base(unverified.id, layers)
        made = dataclasses.replace(lock, tree=manifest.digest)
        if lock.tree not in (_UNKNOWN, made.tree):
            raise HashMismatch(
                f"the locked packages of Debian {lock.suite} make another tree here: locked {lock.tree}, "
                f"made {made.tree}",
                hint="this machine's mmdebstrap or dpkg is another version than the one that locked it: run "
                "`klock lock --upgrade-base`",
            )
        workshop.add_base(made.id, layers)
    store.write_record(_TREES, unverified.id, made.tree)
    progress.done(f"{len(manifest)} entries")
    return made
