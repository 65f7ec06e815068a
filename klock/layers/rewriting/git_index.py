"""Makes a git index say nothing about the disk it was written on.

A fresh checkout differs from another one only in the times and inode numbers its index remembers for speed. Zeroed, git
looks at the files once and writes the index anew. Format: git's Documentation/gitformat-index.txt, versions 2 to 4.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

__all__ = ["without_stat_data"]

_EXTENDED: Final = 0x4000
_STAT_BEFORE_MODE: Final = 24  # ctime 8, mtime 8, dev 4, inode 4
_MODE: Final = 4
_OWNER: Final = 8


def without_stat_data(index: bytes) -> bytes:
    """The index with times, device, inode and owners zero; bytes that are no known index come back unchanged."""
    for hasher, width in ((hashlib.sha1, 20), (hashlib.sha256, 32)):
        if len(index) > 12 + width and hasher(index[:-width], usedforsecurity=False).digest() == index[-width:]:
            body = _zeroed(bytearray(index[:-width]), width)
            return index if body is None else body + hasher(body, usedforsecurity=False).digest()
    return index


def _zeroed(body: bytearray, width: int) -> bytes | None:
    signature, version, count = struct.unpack_from(">4sII", body)
    if signature != b"DIRC" or version not in (2, 3, 4):
        return None
    at = 12
    for _ in range(count):
        start = at
        flags_at = start + _STAT_BEFORE_MODE + _MODE + _OWNER + 4 + width
        if flags_at + 2 > len(body):
            return None
        body[start : start + _STAT_BEFORE_MODE] = bytes(_STAT_BEFORE_MODE)
        owner = start + _STAT_BEFORE_MODE + _MODE
        body[owner : owner + _OWNER] = bytes(_OWNER)
        (flags,) = struct.unpack_from(">H", body, flags_at)
        at = flags_at + (4 if flags & _EXTENDED else 2)
        if version == 4:
            while at < len(body) and body[at] & 0x80:
                at += 1
            at += 1
        end = body.find(0, at)
        if end < 0:
            return None
        # Versions 2 and 3 pad an entry with 1 to 8 NUL bytes to a multiple of 8.
        at = end + 1 if version == 4 else start + (end - start + 8) // 8 * 8
    return bytes(body)
