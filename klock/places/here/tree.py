"""What the container's own root file system holds: every path as a manifest entry, with the stamps that say it changed.

A scan reads only files whose stamps are new since the scan before (size, times and inode, as make and git do it; the
change time cannot be set by programs). Other file systems are not entered: what a pod mounts is the pod's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from klock.digests import Digest
from klock.errors import EngineError, StoreError
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import is_left_out
from klock.layers.scan import digests_of_files, entry_of, text_of
from klock.places.here.mounts import mount_points
from klock.values import dataclass

__all__ = ["Seen", "Tree", "is_untouched", "on_disk", "scan", "see"]

_HEADER: Final = "klock-tree 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A path at one moment. Times are in nanoseconds; `inode` is unique on the one file system that is scanned."""

    entry: Entry
    modified: int
    changed: int
    inode: int

    def to_line(self) -> str:
        return f"{self.modified} {self.changed} {self.inode} {self.entry.to_line()}"

    @classmethod
    def from_line(cls, line: str) -> Seen:
        modified, changed, inode, entry = line.split(" ", 3)
        return cls(entry=Entry.from_line(entry), modified=int(modified), changed=int(changed), inode=int(inode))

    def is_as_before(self, before: Seen | None) -> bool:
        """Whether nothing touched the path since `before` was seen."""
        return before is not None and (self.modified, self.changed, self.inode, self.entry.size) == (
            before.modified,
            before.changed,
            before.inode,
            before.entry.size,
        )


class Tree(Mapping[str, Seen]):
    """What was seen, by path relative to the root."""

    __slots__ = ("_seen",)

    def __init__(self, seen: Mapping[str, Seen]) -> None:
        self._seen = dict(seen)

    def __getitem__(self, path: str) -> Seen:
        return self._seen[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def entry(self, path: str) -> Entry | None:
        found = self._seen.get(path)
        return None if found is None else found.entry

    @property
    def manifest(self) -> Manifest:
        return Manifest(seen.entry for seen in self._seen.values())

    def to_bytes(self) -> bytes:
        return (_HEADER + "".join(seen.to_line() for seen in self._seen.values())).encode("ascii")

    @classmethod
    def from_bytes(cls, content: bytes) -> Tree:
        """Reads what `to_bytes` wrote. Raises StoreError."""
        try:
            text = content.decode("ascii")
            if not text.startswith(_HEADER):
                raise ValueError("no header")
            seen = map(Seen.from_line, text.splitlines()[1:])
            return cls({found.entry.path: found for found in seen})
        except ValueError as error:
            raise StoreError(f"a damaged record of the container's files: {error}") from error


def on_disk(path: str) -> bytes:
    """Where a manifest's path is in this container."""
    return b"/" + path.encode("utf-8", "surrogateescape")


def see(path: str) -> Seen | None:
    """The path as it is now, without a file's digest; None when nothing a layer could hold is there."""
    where = on_disk(path)
    try:
        status = os.lstat(where)
        entry = entry_of(where, path, status)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if entry is None:
        return None
    return Seen(entry=entry, modified=status.st_mtime_ns, changed=status.st_ctime_ns, inode=status.st_ino)


def is_untouched(tree: Tree) -> bool:
    """Whether each path is as it was seen, by its stamps alone: nothing is read."""
    for path, seen in tree.items():
        try:
            status = os.lstat(on_disk(path))
        except OSError:
            return False
        # A folder changes whenever something is made in it: its own mode and owner count.
        if seen.entry.kind is Kind.FOLDER:
            now = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
            if not stat.S_ISDIR(status.st_mode) or now != (seen.entry.mode, seen.entry.uid, seen.entry.gid):
                return False
        elif (status.st_mtime_ns, status.st_ctime_ns, status.st_ino) != (seen.modified, seen.changed, seen.inode):
            return False
    return True


def scan(known: Tree | None = None, *, without: Iterable[Path] = ()) -> Tree:
    """The container's root file system as it is now, but what is never locked, mounted, or at or below `without`.

    Files that are as they were in `known` are not read.
    """
    skipped = {os.fsencode(path) for path in without} | mount_points()
    found: dict[str, Seen] = {}
    unread: list[tuple[str, int]] = []
    for path in _walk(skipped):
        seen = see(path)
        if seen is None:
            continue  # it went in this moment, or is a socket or a device
        found[path] = seen
        if seen.entry.kind is Kind.FILE:
            before = known.get(path) if known is not None else None
            if before is not None and before.entry.kind is Kind.FILE and seen.is_as_before(before):
                found[path] = replace(seen, entry=replace(seen.entry, digest=before.entry.digest))
            else:
                unread.append((path, seen.entry.size))
    read = _digests(dict(unread))
    for path, _ in unread:
        if path in read:
            found[path] = replace(found[path], entry=replace(found[path].entry, digest=read[path]))
        else:
            del found[path]
    return Tree(found)


def _digests(sizes: Mapping[str, int]) -> dict[str, Digest]:
    """Of the files at these paths; not of those that programs removed in this moment."""
    while True:
        try:
            return dict(zip(sizes, digests_of_files([(on_disk(p), size) for p, size in sizes.items()]), strict=True))
        except (OSError, EngineError):
            there = {path: size for path, size in sizes.items() if _is_file(path)}
            if len(there) == len(sizes):
                raise
            sizes = there


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(on_disk(path)).st_mode)
    except OSError:
        return False


def _walk(skipped: set[bytes]) -> Iterator[str]:
    waiting = [(b"/", "")]
    while waiting:
        folder, above = waiting.pop()
        try:
            names = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            where, path = folder + name, above + text_of(name)
            if where in skipped or is_left_out(path):
                continue
            yield path
            try:
                is_folder = stat.S_ISDIR(os.lstat(where).st_mode)
            except FileNotFoundError:
                continue
            if is_folder:
                waiting.append((where + b"/", path + "/"))
