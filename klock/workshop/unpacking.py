"""Unpacking in a process whose root is the folder it fills, so that no member of an archive can lead out of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from klock.errors import EngineError

__all__ = ["unpack_in_root"]

T = TypeVar("T")


def unpack_in_root(archive: Path, root: Path, unpack: Callable[[BinaryIO], T]) -> T:
    """Opens `archive`, makes `root` the root of this process for good, and calls `unpack` there with the open file."""
    with open(archive, "rb") as file:
        _preload()
        os.chroot(root)
        os.chdir("/")
        return unpack(file)


def _preload() -> None:
    """Imports what unpacking may need, before the process changes its root and can no longer find Python's modules."""
    import contextlib
    import encodings.idna
    import tarfile

    assert encodings.idna and tarfile
    with contextlib.suppress(ImportError):
        import zstandard

        assert zstandard
    # Fills the caches behind the first warning or error text.
    EngineError("")
