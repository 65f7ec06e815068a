"""Tar archives as ADD unpacks them: plain, or compressed with gzip, bzip2, xz or zstd, whatever their names."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from klock.layers.decompression import BrokenArchive, decompressed
from klock.layers.streaming import BoundedMember

__all__ = ["BROKEN", "is_archive", "open_archive"]

_ZSTD: Final = b"\x28\xb5\x2f\xfd"

BROKEN: Final = (
    tarfile.TarError,
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    BrokenArchive,
    ValueError,
    OverflowError,
    RecursionError,
)
"""What reading or unpacking an archive raises that ends early, is none, or has numbers and names that cannot be."""


@contextmanager
def open_archive(file: IO[bytes], *, source: str) -> Iterator[tarfile.TarFile]:
    """The archive in `file`, from where it stands. Raises what `BROKEN` names, and FetchError where klock cannot read
    zstd."""
    start = file.tell()
    is_zstd = file.read(len(_ZSTD)) == _ZSTD
    file.seek(start)
    if not is_zstd:
        with tarfile.open(fileobj=file, mode="r:*", tarinfo=BoundedMember) as archive:
            yield archive
        return
    # A stream cannot go back: its members are read in their order.
    with (
        decompressed(file, "application/zstd", source) as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedMember) as archive,
    ):
        yield archive


def is_archive(path: Path) -> bool:
    """Whether ADD unpacks it: it has a first member. Raises FetchError for one in zstd where klock cannot read that."""
    try:
        with open(path, "rb") as file, open_archive(file, source=path.name) as archive:
            return archive.next() is not None
    except BROKEN:
        return False
