"""Locks on files that are open: flock(2). The kernel releases them when their holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

__all__ = ["locked"]


@contextmanager
def locked(file: BinaryIO, operation: int) -> Iterator[None]:
    """Waits for a lock, `fcntl.LOCK_EX` or `LOCK_SH`, and holds it while the block runs.

    Unlocks the file itself: children of this process inherit the open file, and may outlive the block.
    """
    fcntl.flock(file, operation)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
