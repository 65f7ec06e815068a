"""Opens what should be an ordinary file, in a tree where anything may be at its path."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import BinaryIO

__all__ = ["open_regular", "read_regular"]


def open_regular(path: str) -> BinaryIO | None:
    """The file at `path`, to read; None for a folder, a device or a FIFO, whose other end it does not wait for.

    Raises OSError if nothing is there, or if klock may not open it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    return None


def read_regular(path: str) -> bytes | None:
    """The bytes of the file at `path`; None if there is none, or if klock may not read it."""
    with suppress(OSError):
        if (file := open_regular(path)) is not None:
            with file:
                return file.read()
    return None
