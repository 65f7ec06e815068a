"""Removes from a Java key store of certificates the time at which each was added; no program reads it.

Debian makes such a store of the system's certificates when Java is installed. Format: OpenJDK's
`sun.security.provider.JavaKeyStore` (JKS), version 2, big-endian; strings are `DataOutput.writeUTF`'s. The SHA-1 at its
end is made with the store's password, which is public for stores of certificates.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

__all__ = ["without_times"]

_HEADER: Final = struct.Struct(">III")
_MAGIC: Final = 0xFEEDFEED
_VERSION: Final = 2
_CERTIFICATE: Final = 2
_TIME: Final = 8
_DIGEST: Final = 20
_SALT: Final = "changeit".encode("utf-16-be") + b"Mighty Aphrodite"


def without_times(store: bytes, *, seconds: int) -> bytes:
    """The store with `seconds` (since 1970) as the time of each entry; bytes of another format come back unchanged."""
    body = store[:-_DIGEST]
    if len(body) < _HEADER.size or _digest(body) != store[-_DIGEST:]:
        return store
    rewritten = _with_time(bytearray(body), struct.pack(">Q", seconds * 1000))
    return store if rewritten is None else rewritten + _digest(rewritten)


def _digest(body: bytes) -> bytes:
    return hashlib.sha1(_SALT + body, usedforsecurity=False).digest()


def _with_time(body: bytearray, time: bytes) -> bytes | None:
    magic, version, count = _HEADER.unpack_from(body)
    if (magic, version) != (_MAGIC, _VERSION):
        return None
    at = _HEADER.size
    try:
        for _ in range(count):
            (tag,) = struct.unpack_from(">I", body, at)
            if tag != _CERTIFICATE:
                return None
            at = _after(body, at + 4, ">H")  # the alias
            if at + _TIME > len(body):
                return None
            body[at : at + _TIME] = time
            at = _after(body, at + _TIME, ">H")  # the certificate's type
            at = _after(body, at, ">I")
    except struct.error:
        return None
    return bytes(body) if at == len(body) else None


def _after(body: bytearray, at: int, length: str) -> int:
    """The end of the bytes whose length stands at `at`."""
    return int(at + struct.calcsize(length) + struct.unpack_from(length, body, at)[0])
