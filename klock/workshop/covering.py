"""What lies over the trees of a composed layer: folders as they are below the layer, and whiteouts.

The trees are shared by layers over other bases, so their folders are all alike. In an overlay the topmost folder of a
name says what mode and owner it is seen with: that is the cover's.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from klock.layers.composing import folders_of
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import MTIME

__all__ = ["cover_of", "make_cover"]


def cover_of(manifest: Manifest, below: Sequence[Manifest]) -> Manifest:
    """The cover of the composed layer `manifest` over `below`, the lowest first."""
    lines = manifest.lines()
    paths = [line[: line.index(b" ")] for line in lines]
    found: dict[bytes, Entry] = {}
    stack = [_Lines(each) for each in reversed(below)]
    for folder in sorted(folders_of(paths)):
        above = folder.rpartition(b"/")[0]
        if (above in found or not above) and (entry := _folder(folder, stack)) is not None:
            found[folder] = entry
    whiteouts = [Entry.from_line(line.decode("ascii")) for line in lines if line.split(b" ", 2)[1] == b"whiteout"]
    return Manifest([*found.values(), *whiteouts])


def make_cover(cover: Manifest, root: Path) -> None:
    """Writes the cover as overlayfs reads it. Must run where its owners are mapped."""
    root.mkdir()
    root.chmod(0o755)
    folders = [entry for entry in cover.values() if entry.kind is Kind.FOLDER]
    for entry in folders:
        (root / entry.path).mkdir()
    for entry in cover.values():
        if entry.kind is Kind.WHITEOUT:
            (root / entry.path).parent.mkdir(parents=True, exist_ok=True)
            os.mknod(root / entry.path, stat.S_IFCHR, os.makedev(0, 0))
    for entry in reversed(folders):
        where = root / entry.path
        os.chown(where, entry.uid, entry.gid)
        where.chmod(entry.mode)
        for name, value in entry.xattrs:
            os.setxattr(where, name, bytes.fromhex(value))
        os.utime(where, (MTIME, MTIME))


class _Lines:
    """A manifest's lines, to look single paths up in without parsing them all."""

    def __init__(self, manifest: Manifest) -> None:
        # In the order of the paths, which is not quite that of the lines.
        self._lines = manifest.lines()
        self._paths = [line[: line.index(b" ")] for line in self._lines]

    def find(self, path: bytes) -> Entry | None:
        at = bisect_left(self._paths, path)
        if at < len(self._paths) and self._paths[at] == path:
            return Entry.from_line(self._lines[at].decode("ascii"))
        return None


def _folder(path: bytes, highest_first: Sequence[_Lines]) -> Entry | None:
    """The folder at `path` as it is seen; None where nothing is there, or no folder."""
    for lines in highest_first:
        entry = lines.find(path)
        if entry is not None:
            return entry if entry.kind is Kind.FOLDER else None
    return None
