"""What a container prints of its files (`klock.fleet.reading_script`), as a manifest. It may print anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from klock.digests import is_digest
from klock.errors import KlockError
from klock.layers.manifest import Entry, Kind, Manifest

__all__ = ["Unreadable", "What", "read_container"]

_LONGEST: Final = 1 << 16
"""Characters of a line: a path has 4096 bytes at most."""
_KINDS: Final = {"file": Kind.FILE, "dir": Kind.FOLDER, "symlink": Kind.SYMLINK, "fifo": Kind.FIFO}
_ODD: Final = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)")


class Unreadable(KlockError):
    """What a container printed is not what the script prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class What:
    """`hidden` are files that the container's user may not read. `files` lacks these, and what is below `mounts`."""

    files: Manifest
    mounts: tuple[str, ...]
    hidden: frozenset[str]


def read_container(pieces: Iterable[str]) -> What:
    """Raises Unreadable."""
    entries: dict[str, Entry] = {}
    hidden: set[str] = set()
    mounts: tuple[str, ...] | None = None
    is_whole = False
    for values in map(_values, _lines(pieces)):
        if mounts is None:
            mounts = _mounts(values)
        elif values[:1] == ["end"]:
            is_whole = values == ["end", len(entries) + len(hidden)]
        else:
            entry = _entry(values)
            if entry.path in entries or entry.path in hidden or is_whole:
                raise Unreadable("it says one path twice, or goes on after its end")
            if entry.kind is Kind.FILE and entry.digest is None:
                hidden.add(entry.path)
            else:
                entries[entry.path] = entry
    if mounts is None or not is_whole:
        raise Unreadable("its answer is cut off")
    return What(files=Manifest(entries.values()), mounts=mounts, hidden=frozenset(hidden))


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from whole
        if len(rest) > _LONGEST:
            raise Unreadable("its answer has a line without end")
    if rest:
        raise Unreadable("its answer is cut off")


def _values(line: str) -> list[Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list):
        raise Unreadable("its answer is not a list of files")
    return values


def _mounts(values: list[Any]) -> tuple[str, ...]:
    if len(values) == 2 and values[0] == "mounts" and isinstance(values[1], list):
        mounts = values[1]
        if all(isinstance(path, str) and path for path in mounts):
            return tuple(mounts)
    raise Unreadable("its answer is not a list of files")


def _entry(values: list[Any]) -> Entry:
    if len(values) != 7:
        raise Unreadable("its answer is not a list of files")
    path, kind, *numbers, content = values
    is_fit = isinstance(path, str) and not _ODD.search(path) and "\0" not in path and kind in _KINDS
    is_fit = is_fit and all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
    if not is_fit:
        raise Unreadable("its answer has an impossible path")
    if kind == "file":
        is_fit = content is None or is_digest(content)
    elif kind == "symlink":
        is_fit = isinstance(content, str)
    else:
        is_fit = content is None
    if not is_fit:
        raise Unreadable("its answer has an impossible file")
    mode, uid, gid, size = numbers
    return Entry(
        path=path,
        kind=_KINDS[kind],
        mode=mode & 0o7777,
        uid=uid,
        gid=gid,
        size=size,
        digest=content if kind == "file" else None,
        target=content if kind == "symlink" else None,
    )
