"""One path to place: what scanning local files gives, and what a workspace takes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from klock.digests import Digest
from klock.values import dataclass

__all__ = ["UNFINISHED", "PlacedFile"]

UNFINISHED: Final = ".klock-"
"""A file's name begins with this until the file is whole, and gets its own name. A kill may leave such a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedFile:
    """One path to place, relative to a destination. For a file `source` is the host file that holds its bytes, and
    `digest` what they must be; for a symlink `target` is its text; for a folder neither.

    `archive`: the file is a tar archive, which is unpacked at the path. If the destination is a folder, a file with the
    path "" goes into it, under its `name`. With `is_one_of_several` the destination must be a folder.
    """

    path: str
    mode: int
    source: Path | None = None
    digest: Digest | None = None
    target: str | None = None
    archive: bool = False
    name: str = ""
    is_one_of_several: bool = False
