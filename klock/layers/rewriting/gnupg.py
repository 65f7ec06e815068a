"""Removes the time of creation from the header of a GnuPG key box, which even `gpg --dearmor` creates.

Format: GnuPG's kbx/keybox-blob.c, "The Header Blob"; integers are big-endian. The keys in a box have times of their
own, which stay: gpg looks at them.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["without_time"]

_HEADER: Final = struct.Struct(">IBBH4sIIIII")
"""Length of the blob, its type and version, flags, magic, unused, made at, last maintained at, unused, unused."""

_TYPE: Final = 1
_VERSION: Final = 1
_MAGIC: Final = b"KBXf"


def without_time(box: bytes, *, seconds: int) -> bytes:
    """The key box as if it was made `seconds` after 1970; bytes of another format come back unchanged."""
    if len(box) < _HEADER.size:
        return box
    length, kind, version, flags, magic, unused, _, maintained, *rest = _HEADER.unpack_from(box)
    if (length, kind, version, magic) != (_HEADER.size, _TYPE, _VERSION, _MAGIC):
        return box
    maintained = seconds if maintained else 0
    return _HEADER.pack(length, kind, version, flags, magic, unused, seconds, maintained, *rest) + box[_HEADER.size :]
