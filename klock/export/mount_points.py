"""Paths that must exist in a read-only image, because a container runtime mounts something there.

A runtime without root's rights cannot make them when it starts. charliecloud needs /dev, /proc and /sys, and passes
over /etc/resolv.conf where the image has none (ch-run(1)). apptainer binds the others, and needs them where the site
allows neither overlay nor underlay (its user guide, "Bind Paths and Mounts").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from klock.errors import KlockError
from klock.layers.manifest import Entry, Kind, Manifest
from klock.workshop.symlinks import MOST_SYMLINKS, follow

__all__ = ["USUAL", "Additions", "folder_named"]

_FOLDERS: Final = (
    *("/dev", "/proc", "/sys", "/tmp", "/var/tmp", "/run", "/home", "/root", "/mnt", "/opt", "/srv"),
    *(f"/mnt/{number}" for number in range(10)),
    "/.singularity.d/libs",
)
_FILES: Final = ("/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/etc/group")
USUAL: Final = (*((path, Kind.FOLDER) for path in _FOLDERS), *((path, Kind.FILE) for path in _FILES))

_MODES: Final = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700}


def folder_named(path: str) -> str:
    """A mount point as a user names it. Raises KlockError for what is not a path below the root."""
    parts = path.split("/")[1:]
    if not path.startswith("/") or not any(parts) or {".", ".."} & set(parts) or not path.isprintable():
        raise KlockError(
            f"{path!r} is not a mount point", hint="name a folder by its path from the root, such as /scratch"
        )
    return "/" + "/".join(part for part in parts if part)


class Additions:
    """Folders and empty files that a tree lacks. What is there stays as it is.

    A symlink is followed, so that something can be mounted where it leads.
    """

    def __init__(self, tree: Manifest) -> None:
        self._tree = tree
        self._added: dict[str, Entry] = {}

    def add(self, path: str, kind: Kind) -> bool:
        """Whether `path` is there then. It is not when a part of it is a file."""
        real = self.real(path)
        for above in _folders_above(real):
            there = self._at(above)
            if there is not None and there.kind is not Kind.FOLDER:
                return False
            if there is None:
                self._put(above, Kind.FOLDER)
        if real and self._at(real) is None:
            self._put(real, kind)
        return True

    def real(self, path: str) -> str:
        """Where a path leads in the tree, relative to its root."""

        def read_link(path: str, followed: int) -> str | None:
            entry = self._tree.get(path)
            return entry.target if entry and entry.kind is Kind.SYMLINK and followed < MOST_SYMLINKS else None

        return follow(path, read_link)

    def __iter__(self) -> Iterator[Entry]:
        """Folders stand before what is in them."""
        return iter(self._added.values())

    def _at(self, path: str) -> Entry | None:
        return self._tree.get(path) or self._added.get(path)

    def _put(self, path: str, kind: Kind) -> None:
        mode = _MODES.get(path, 0o755) if kind is Kind.FOLDER else 0o644
        self._added[path] = Entry(path=path, kind=kind, mode=mode)


def _folders_above(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))
