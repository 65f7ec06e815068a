"""Unpacking in a process whose root is the folder it fills, so that no member of an archive can lead out of it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from klock.errors import EngineError
from klock.forks import Tally

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["counted", "unpack_in_root"]

T = TypeVar("T")

_BUFFER: Final = 1 << 16


def unpack_in_root(archive: Path, root: Path, unpack: Callable[[BinaryIO], T]) -> T:
    """Opens `archive`, makes `root` the root of this process for good, and calls `unpack` there with the open file."""
    with open(archive, "rb") as file:
        _preload()
        os.chroot(root)
        os.chdir("/")
        return unpack(file)


def counted(file: BinaryIO, tally: Tally, *, part: int = 0) -> BinaryIO:
    """The file, which tells how much of it was read, in whatever process."""
    return io.BufferedReader(_Counted(file, tally, part), _BUFFER)


class _Counted(io.RawIOBase):
    def __init__(self, file: BinaryIO, tally: Tally, part: int) -> None:
        super().__init__()
        self._file = file
        self._tally = tally
        self._part = part

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        content = self._file.read(len(view))
        view[: len(content)] = content
        self._tally.add(len(content), part=self._part)
        return len(content)


def _preload() -> None:
    """Imports what unpacking may need, before the process changes its root and can no longer find Python's modules."""
    import contextlib
    import dataclasses
    import encodings.idna
    import hashlib
    import json
    import tarfile

    assert dataclasses and encodings.idna and hashlib and json and tarfile
    with contextlib.suppress(ImportError):
        import isal.igzip

        assert isal.igzip
    with contextlib.suppress(ImportError):
        import zstandard

        assert zstandard
    # Fills the caches behind the first warning or error text.
    EngineError("")
