"""Folders within one another, more than Python's own functions go through."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["make_deep"]


def make_deep(folder: Path, name: str, depth: int) -> None:
    """Folders of this name within one another, and a file in the last."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here), here
        os.close(above)
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
