"""Digests of files that have not changed since they were read, told by their stat, so that a second look reads nothing.

A file counts as unchanged when device, inode, size, mtime and ctime are the same; ctime cannot be set back, so an edit
that keeps size and mtime is seen. Two edits within one tick of the clock have one ctime: as git does for its index
("racy git"), a file that changed shortly before it was read is not remembered.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from klock.digests import Digest, digest_of_bytes, is_digest
from klock.errors import StoreError
from klock.store import Store

__all__ = ["DigestCache"]

RACY_NANOSECONDS: Final = 2_000_000_000
"""Coarser than the clock of any file system in use (FAT has two seconds)."""

_KIND: Final = "file-digests"
_Fields = tuple[int, int, int, int, int]


class DigestCache:
    """Digests by path relative to one source. Without a store it is empty, and keeps nothing."""

    def __init__(self, *, store: Store | None = None, key: str = "", clock: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._key = key
        self._clock = clock
        self._saved: dict[str, tuple[_Fields, Digest, str]] = {}
        if store is not None:
            self._saved = _read(store.read_record(_KIND, key))
        self._now = dict(self._saved)

    @classmethod
    def of_source(cls, store: Store, source: Path) -> DigestCache:
        """The digests of files below the absolute path `source`."""
        return cls(store=store, key=digest_of_bytes(os.fsencode(source)))

    def find(self, path: str, status: os.stat_result) -> tuple[Digest, str] | None:
        """The digest of a file with this stat, and the credential that it is; None when it has to be read."""
        known = self._now.get(path)
        return known[1:] if known is not None and known[0] == _fields(status) else None

    def remember(self, path: str, status: os.stat_result, digest: Digest, credential: str = "") -> None:
        """Takes note of a digest just computed of a file with this stat, unless the file is too young to tell.

        `credential` says in words what credential the file is, if it is one.
        """
        if max(status.st_mtime_ns, status.st_ctime_ns) + RACY_NANOSECONDS < self._clock():
            self._now[path] = (_fields(status), digest, credential)
        else:
            self._now.pop(path, None)

    def forget_others(self, paths: Iterable[str]) -> None:
        """Only `paths` are still there."""
        wanted = set(paths)
        self._now = {path: value for path, value in self._now.items() if path in wanted}

    def save(self) -> None:
        """Writes the cache into the store. A store that cannot be written costs time later, nothing else."""
        if self._store is None or self._now == self._saved:
            return
        record = {path: [*fields, *known] for path, (fields, *known) in self._now.items()}
        with contextlib.suppress(StoreError):
            self._store.write_record(_KIND, self._key, record)
        self._saved = dict(self._now)


def _fields(status: os.stat_result) -> _Fields:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(record: Any) -> dict[str, tuple[_Fields, Digest, str]]:
    """A record of another shape is as good as none."""
    if not isinstance(record, dict):
        return {}
    known: dict[str, tuple[_Fields, Digest, str]] = {}
    for path, value in record.items():
        match value:
            case [int(device), int(inode), int(size), int(mtime), int(ctime), str(digest), str(credential)] if (
                is_digest(digest)
            ):
                known[path] = ((device, inode, size, mtime, ctime), digest, credential)
    return known
