"""Removes from GnuPG's key boxes, and from its database of trust, the times at which they and what is in them was made.

Format: GnuPG's kbx/keybox-blob.c and g10/tdbio.c; integers are big-endian. gpg looks at the time of a key in a box only
if the key is there for a while ("ephemeral"): a box with such a key keeps its times.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

__all__ = ["trust_without_time", "without_time"]

_HEADER: Final = struct.Struct(">IBBH4sIIIII")
"""Length of the blob, its type and version, flags, magic, unused, made at, last maintained at, unused, unused."""

_TYPE: Final = 1
_KEY_TYPES: Final = (2, 3)
_VERSION: Final = 1
_MAGIC: Final = b"KBXf"
_EPHEMERAL: Final = 2
_KEYS_AT: Final = 16
_DIGEST: Final = 20

_TRUST: Final = b"\x01gpg\x03"
_TRUST_RECORD: Final = 40
_TRUST_MADE_AT: Final = 12


def without_time(box: bytes, *, seconds: int) -> bytes:
    """The key box as if all was made `seconds` after 1970; bytes of another format come back unchanged."""
    if len(box) < _HEADER.size:
        return box
    length, kind, version, flags, magic, unused, _, maintained, *rest = _HEADER.unpack_from(box)
    if (length, kind, version, magic) != (_HEADER.size, _TYPE, _VERSION, _MAGIC):
        return box
    maintained = seconds if maintained else 0
    head = _HEADER.pack(length, kind, version, flags, magic, unused, seconds, maintained, *rest)
    try:
        return head + _keys_without_time(box[_HEADER.size :], seconds)
    except (struct.error, ValueError):
        return head + box[_HEADER.size :]


def _keys_without_time(blobs: bytes, seconds: int) -> bytes:
    """The blobs of keys with another time; raises struct.error or ValueError if they are not what they should be."""
    made = bytearray()
    while blobs:
        length, kind, _, flags = struct.unpack_from(">IBBH", blobs)
        blob, blobs = bytearray(blobs[:length]), blobs[length:]
        body = memoryview(blob)[:-_DIGEST]
        if kind not in _KEY_TYPES or flags & _EPHEMERAL or len(blob) != length or _digest(body) != blob[-_DIGEST:]:
            raise ValueError("no key that stays")
        struct.pack_into(">I", body, _made_at(body), seconds)
        made += body.tobytes() + _digest(body)
    return bytes(made)


def _made_at(body: memoryview) -> int:
    """Where the time stands: after keys, serial number, user ids and signatures, trust, and two other times."""
    count, size = struct.unpack_from(">HH", body, _KEYS_AT)
    at = _KEYS_AT + 4 + count * size
    at += 2 + int(struct.unpack_from(">H", body, at)[0])
    for _ in range(2):
        count, size = struct.unpack_from(">HH", body, at)
        at += 4 + count * size
    return int(at + 12)


def _digest(body: memoryview) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).digest()


def trust_without_time(database: bytes, *, seconds: int) -> bytes:
    """The database of trust as if it was made `seconds` after 1970; bytes of another format come back unchanged."""
    if not database.startswith(_TRUST) or len(database) % _TRUST_RECORD:
        return database
    return database[:_TRUST_MADE_AT] + struct.pack(">I", seconds) + database[_TRUST_MADE_AT + 4 :]
