"""Reading a tar archive as it comes, in memory that does not grow with it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

__all__ = ["members_of"]


def members_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members in their order. `tarfile` would remember every one of them."""
    for member in archive:
        yield member
        vars(archive)["members"] = []
