"""Reads files by patterns, and looks for byte strings in a folder: in contents, names, symlinks and attributes.

Each file is read once, whatever the number of values, in pieces that stay in the processor's cache: `bytes.find` for
each value is many times faster than one pattern of all values, and values that have a part in common are looked for
only where that part is. A value that lies across two pieces is found, as each piece begins with the end of the one
before.
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from klock.forks import map_in_forks
from klock.walking import walk
from klock.workshop.regular_files import open_regular

__all__ = ["files_matching", "hits", "is_in_file", "paths_with"]

_PIECE: Final = 1 << 18
_BEGINNING: Final = 1 << 16
_MANY: Final = 500
"""Paths."""
_MUCH: Final = 16 << 20
"""Bytes. From so much on it pays to start processes."""
_PART: Final = 4
"""Bytes: a shorter part would be everywhere, as by chance."""


def paths_with(values: Sequence[bytes], folder: str) -> list[str]:
    """The paths (from `folder` on, which is `/`) of everything that holds one of `values`, sorted. All cores read."""
    search = _search_for(values)
    if search is None:
        return []
    sizes = {path: os.lstat(path).st_size for path in _below(folder)}
    paths = list(sizes)
    if len(paths) > _MANY or sum(sizes.values()) > _MUCH:
        are_hits = map_in_forks(search.is_hit, paths, cost=sizes.__getitem__)
    else:
        are_hits = list(map(search.is_hit, paths))
    return sorted(path.removeprefix(folder) for path, holds in zip(paths, are_hits, strict=True) if holds)


def hits(values: Sequence[bytes], paths: Iterable[str]) -> Iterator[str]:
    """Those of `paths` that hold one of `values`."""
    search = _search_for(values)
    if search is not None:
        yield from filter(search.is_hit, paths)


def is_in_file(values: Sequence[bytes], path: str) -> bool:
    """Whether the content of a file holds one of `values`, none of which is empty."""
    return _Search(values)._holds_in_file(path)


def files_matching(patterns: Iterable[str]) -> dict[str, bytes]:
    """The files whose paths match shell patterns, by path, the first 64 KiB of each."""
    found = {}
    for path in sorted({path for pattern in patterns for path in glob.iglob(pattern, include_hidden=True)}):
        with contextlib.suppress(OSError):
            if (file := open_regular(path)) is not None:
                with file:
                    found[path] = file.read(_BEGINNING)
    return found


def _below(folder: str) -> Iterator[str]:
    for above, folders, others in walk(folder):
        for name in (*folders, *others):
            yield f"{above}/{name}"


def _search_for(values: Sequence[bytes]) -> _Search | None:
    """None if there is nothing to look for."""
    wanted = [value for value in dict.fromkeys(values) if value]
    return _Search(wanted) if wanted else None


class _Search:
    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = values
        self._groups = _with_common_parts(values)
        self._overlap = max(map(len, values)) - 1
        self._buffer = bytearray(self._overlap + max(_PIECE, self._overlap))

    def is_hit(self, path: str) -> bool:
        if self._holds(os.fsencode(os.path.basename(path))) or self._holds_in_attributes(path):
            return True
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return self._holds(os.fsencode(os.readlink(path)))
        return stat.S_ISREG(status.st_mode) and status.st_size > 0 and self._holds_in_file(path)

    def _holds(self, content: bytes | bytearray) -> bool:
        return any(value in content for value in self._values)

    def _holds_in_attributes(self, path: str) -> bool:
        names = os.listxattr(path, follow_symlinks=False)
        return any(
            self._holds(os.fsencode(name)) or self._holds(os.getxattr(path, name, follow_symlinks=False))
            for name in names
        )

    def _holds_in_file(self, path: str) -> bool:
        buffer, overlap = self._buffer, self._overlap
        kept = 0
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while length := os.readv(descriptor, [memoryview(buffer)[kept:]]):
                end = kept + length
                for part, group in self._groups:
                    if buffer.find(part, 0, end) >= 0 and any(buffer.find(value, 0, end) >= 0 for value in group):
                        return True
                kept = min(overlap, end)
                buffer[:kept] = buffer[end - kept : end]
        finally:
            os.close(descriptor)
        return False


def _with_common_parts(values: Sequence[bytes]) -> list[tuple[bytes, Sequence[bytes]]]:
    """The values in groups, each with a part that all of the group have: itself, for a value that shares none."""
    left, groups = list(values), []
    while left:
        parts = Counter(
            part for value in left for part in {value[n : n + _PART] for n in range(len(value) - _PART + 1)}
        )
        part, number = max(parts.items(), key=lambda item: (item[1], item[0]), default=(b"", 0))
        if number < 2:
            break
        groups.append((part, [value for value in left if part in value]))
        left = [value for value in left if part not in value]
    return [*groups, *((value, [value]) for value in left)]
