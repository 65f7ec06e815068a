"""Who brings a path of the environment: the step whose layer has it, and the package whose record names it.

Reads the store's manifests, the RECORD of distributions (PyPA, "Recording installed projects") and dpkg's lists.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.debian.dpkg_status import STATUS_FILE, dependencies
from klock.layers.manifest import Entry, Kind
from klock.layers.rewriting.bytecode import source_of
from klock.lockfile.model import TargetLock, layer_of
from klock.places.layered import layer_in_store
from klock.values import dataclass
from klock.words import in_bytes
from klock.workshop.symlinks import MOST_SYMLINKS, follow

if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.layers.manifest import Manifest
    from klock.workshop import SandboxWorkshop

__all__ = ["Owner", "debs_require", "owner_of"]

_LISTS: Final = "var/lib/dpkg/info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """`position` of the step whose layer has the path, None for the base; `package` in words, where one is known."""

    entry: Entry
    position: int | None
    package: str | None = None

    @property
    def value(self) -> str:
        entry = self.entry
        if entry.kind is Kind.FILE:
            return f"{in_bytes(entry.size)}, mode {entry.mode:04o}"
        return f"{entry.kind.value} to {entry.target}" if entry.target is not None else f"folder, mode {entry.mode:04o}"


def owner_of(path: str, lock: TargetLock, workshop: SandboxWorkshop) -> Owner | None:
    """Who brings the absolute `path`, which may lead through symlinks; None where nothing does. Raises StoreError when
    base and layers are not here."""
    layers = [(n, layer.digest) for n, step in enumerate(lock.steps) if (layer := layer_of(step)) is not None]
    shown: list[tuple[int | None, Digest, Manifest]] = [(None, lock.base.id, workshop.base_manifest(lock.base.id))]
    shown += [(position, digest, layer_in_store(digest, workshop)) for position, digest in layers]
    shown.reverse()

    def entry_at(here: str) -> Entry | None:
        return next((manifest[here] for _, _, manifest in shown if here in manifest), None)

    def read_link(here: str, followed: int) -> str | None:
        entry = entry_at(here)
        return entry.target if entry and entry.kind is Kind.SYMLINK and followed < MOST_SYMLINKS else None

    above, _, name = posixpath.normpath(path).strip("/").rpartition("/")
    inside = posixpath.join(follow(above, read_link), name)
    entry = entry_at(inside)
    if entry is None or entry.kind is Kind.WHITEOUT:
        return None
    position, digest, _ = next(each for each in shown if inside in each[2])
    folders = _base_folders(lock, workshop) if position is None else _folders(digest, workshop)
    return Owner(entry=entry, position=position, package=_package(inside, folders))


def debs_require(lock: TargetLock, workshop: SandboxWorkshop) -> dict[str, tuple[str, ...]]:
    """What Debian's packages depend on, by dpkg's own record; empty where the store has none."""
    with contextlib.suppress(OSError):
        folders = _base_folders(lock, workshop)
        folders += [folder for digest in lock.layers for folder in _folders(digest, workshop)]
        for folder in reversed(folders):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return dependencies((folder / STATUS_FILE.lstrip("/")).read_bytes())
    return {}


def _base_folders(lock: TargetLock, workshop: SandboxWorkshop) -> list[Path]:
    return [workshop.trees.diff(diff) / "root" for diff in workshop.trees.diffs_of(lock.base.id)]


def _folders(layer: Digest, workshop: SandboxWorkshop) -> list[Path]:
    return [folder / "root" for folder in workshop.trees.folders_of(layer)]


def _package(path: str, folders: Sequence[Path]) -> str | None:
    source = source_of(path) or path
    for folder in reversed(folders):
        # What this user may not read says nothing.
        with contextlib.suppress(OSError):
            for name in (*_distributions(source, folder), *_debs(path, folder)):
                return name
    return None


def _distributions(path: str, folder: Path) -> Iterator[str]:
    """The distribution whose RECORD names the path: those in the folders above it, and for scripts in all of `lib`."""
    for record in (folder / "usr").glob("**/*.dist-info/RECORD") if (folder / "usr").is_dir() else ():
        site = str(record.parent.parent.relative_to(folder))
        lines = record.read_text("utf-8", "replace").splitlines()
        name = record.parent.name.removesuffix(".dist-info")
        named = (posixpath.join(site, line.split(",")[0].strip('"')) for line in lines)
        if any(posixpath.normpath(each) == path for each in named):
            yield "the distribution " + " ".join(name.rsplit("-", 1))


def _debs(path: str, folder: Path) -> Iterator[str]:
    """The Debian package that lists the path. A merged /usr has what packages list as /bin/x at /usr/bin/x."""
    wanted = {f"/{path}", f"/{path.removeprefix('usr/')}"}
    for listed in sorted((folder / _LISTS).glob("*.list")):
        if not wanted.isdisjoint(listed.read_text("utf-8", "replace").splitlines()):
            yield f"the Debian package {listed.name.removesuffix('.list').partition(':')[0]}"
