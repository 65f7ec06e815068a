"""Reading a tar archive as it comes, in memory that does not grow with it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Final

__all__ = ["BoundedMember", "members_of"]

_HEADERS: Final = frozenset([tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
_LONG_NAMES: Final = frozenset([tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
_LARGEST_HEADER: Final = 1 << 20


class BoundedMember(tarfile.TarInfo):
    """A member whose headers are not longer than can be read into memory: `tarfile` reads any, whatever their size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> BoundedMember:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS | _LONG_NAMES and member.size > _LARGEST_HEADER:
            raise tarfile.ReadError("a header in it is longer than 1 MiB")
        return member


def members_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members in their order. `tarfile` would remember every one of them."""
    for member in archive:
        yield member
        vars(archive)["members"] = []
