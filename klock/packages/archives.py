"""Files out of wheels and source distributions, which strangers made: bounded in size, and every fault a FetchError.

A megabyte of zeros is a kilobyte in an archive, and an archive may be broken at any byte.
"""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from klock.errors import FetchError
from klock.layers.streaming import BoundedMember, members_of

__all__ = ["BROKEN", "LARGEST_MEMBER", "LARGEST_TEXT", "opened_zip", "read_from_tar", "read_member"]

LARGEST_MEMBER: Final = 32 << 20
"""bytes: of a file that is read into memory, such as METADATA or RECORD."""

LARGEST_TEXT: Final = 4 << 20
"""bytes: of a pyproject.toml."""

BROKEN: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    AttributeError,
    LookupError,
    TypeError,
)
"""What Python's readers of archives raise for one that is broken."""


@contextmanager
def opened_zip(path: Path, file_name: str, *, what: str = "a wheel") -> Iterator[zipfile.ZipFile]:
    """The archive at `path`; whatever the block finds broken in it is a FetchError that names `file_name`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except BROKEN as error:
        raise FetchError(f"{file_name} is not {what}: {error or type(error).__name__}") from error


def read_member(archive: zipfile.ZipFile, name: str, *, largest: int = LARGEST_MEMBER) -> bytes:
    """The bytes of a member. Raises BadZipFile for one that is larger."""
    with archive.open(name) as member:
        content = member.read(largest + 1)
    if len(content) > largest:
        raise zipfile.BadZipFile(f"{name} is larger than {largest >> 20} MiB")
    return content


def read_from_tar(path: Path, wanted: str) -> bytes | None:
    """The first file of a tar archive whose path is `wanted`, below the archive's one folder. Raises one of BROKEN."""
    with tarfile.open(path, tarinfo=BoundedMember) as archive:
        for member in members_of(archive):
            if member.isfile() and member.name.removeprefix("./").partition("/")[2] == wanted:
                file = archive.extractfile(member)
                content = file.read(LARGEST_TEXT + 1) if file else b""
                if len(content) > LARGEST_TEXT:
                    raise tarfile.ReadError(f"{wanted} is larger than {LARGEST_TEXT >> 20} MiB")
                return content
    return None
