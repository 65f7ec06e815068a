"""Reading a tar archive as it comes, in memory that does not grow with it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Final

__all__ = ["BUFFER", "BoundedMember", "members_of", "open_stream"]

BUFFER: Final = 1 << 16
"""bytes. Larger is slower: tarfile copies what is left of its buffer at each header it reads."""


_HEADERS: Final = frozenset([tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
_LONG_NAMES: Final = frozenset([tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
_LARGEST_HEADER: Final = 1 << 20


_TAKE_MEMBER: Final = vars(tarfile.TarInfo)["_proc_member"]
"""What `tarfile` of every version calls for a header that it has read, before it reads what belongs to it. It is not
public: newer versions no longer call `frombuf`, which is. Where it is missing, klock does not start."""


class BoundedMember(tarfile.TarInfo):
    """A member whose headers are not longer than can be read into memory: `tarfile` reads any, whatever their size."""

    def _proc_member(self, archive: tarfile.TarFile) -> object:
        if self.type in _HEADERS | _LONG_NAMES and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError("a header in it is longer than 1 MiB")
        return _TAKE_MEMBER(self, archive)


def members_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members in their order. `tarfile` would remember every one of them."""
    for member in archive:
        yield member
        vars(archive)["members"] = []


def open_stream(content: IO[bytes]) -> tarfile.TarFile:
    """An uncompressed archive that is read once, from its beginning to its end; names are bytes with escapes."""
    return tarfile.open(
        fileobj=content,
        mode="r|",
        bufsize=BUFFER,
        encoding="utf-8",
        errors="surrogateescape",
        tarinfo=BoundedMember,
    )
