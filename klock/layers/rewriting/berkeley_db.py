"""Takes the time out of a Berkeley DB of aliases or of a lookup table of Postfix, and makes its id one of its content.

Format: Berkeley DB's `dbinc/db_page.h` (hash and btree, little-endian); Postfix's `util/dict_db.c` for the entry with
the time.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Final

__all__ = ["without_time"]

_MAGICS: Final = (0x061561, 0x053162)
_MAGIC_AT: Final = 12
_PAGE_SIZE_AT: Final = 20
_ID_AT: Final = 52
_ID: Final = 20
_PAGE_SIZES: Final = tuple(512 << shift for shift in range(8))
_MODIFIED: Final = re.compile(rb"(?<=\x01)\d{10}(?=\x01YP_LAST_MODIFIED)")


def without_time(database: bytes, *, seconds: int) -> bytes:
    """The database as if it was made `seconds` after 1970; bytes of another format come back unchanged."""
    if len(database) < _ID_AT + _ID or _magic(database, 0) not in _MAGICS:
        return database
    (page_size,) = struct.unpack_from("<I", database, _PAGE_SIZE_AT)
    if page_size not in _PAGE_SIZES or len(database) % page_size:
        return database
    body = bytearray(_MODIFIED.sub(b"%010d" % seconds, database))
    id_ = body[_ID_AT : _ID_AT + _ID]
    pages = [page for page in range(0, len(body), page_size) if body[page + _ID_AT : page + _ID_AT + _ID] == id_]
    for page in pages:
        body[page + _ID_AT : page + _ID_AT + _ID] = bytes(_ID)
    # Two files of a program must not have the same id: it would take them for one.
    new = hashlib.sha1(body, usedforsecurity=False).digest()
    for page in pages:
        body[page + _ID_AT : page + _ID_AT + _ID] = new
    return bytes(body)


def _magic(database: bytes, page: int) -> int:
    return int(struct.unpack_from("<I", database, page + _MAGIC_AT)[0])
