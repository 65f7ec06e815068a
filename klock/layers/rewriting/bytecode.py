"""Keeps the bytecode of Python modules valid, and the same each time, when their source files get another time.

A `.pyc` file usually holds the modification time and the size of its source, and Python ignores one that is not of its
source (PEP 552). So when a source file is given a layer's time, the time in its bytecode has to follow.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["BYTECODE_HEADER", "source_of", "with_time_of_source"]

_HEADER: Final = struct.Struct("<4sIII")
"""Magic number, flags, then for flags 0 the source's time (seconds) and size (bytes), of each the lower 32 bits."""

BYTECODE_HEADER: Final = _HEADER.size
"""Bytes at the beginning of a file that `with_time_of_source` needs."""

_MAGIC_END: Final = b"\r\n"
_FOLDER: Final = "__pycache__/"
_BITS: Final = 0xFFFFFFFF


def source_of(path: str) -> str | None:
    """The path of the source whose bytecode would be at `path` (PEP 3147); None where there is no bytecode."""
    above, cached, name = path.rpartition(_FOLDER)
    if not cached or not name.endswith(".pyc") or (above and not above.endswith("/")):
        return None
    return f"{above}{name.partition('.')[0]}.py"


def with_time_of_source(bytecode: bytes, *, size: int, was: int, becomes: int) -> bytes:
    """The bytecode (or its beginning) of a source of `size` bytes, whose time `was` one and `becomes` another.

    Times are in seconds since 1970. Bytecode that was not valid for that source, or holds the source's digest instead,
    comes back unchanged.
    """
    if len(bytecode) < _HEADER.size:
        return bytecode
    magic, flags, time, length = _HEADER.unpack_from(bytecode)
    if not magic.endswith(_MAGIC_END) or flags != 0 or (time, length) != (was & _BITS, size & _BITS):
        return bytecode
    return _HEADER.pack(magic, flags, becomes & _BITS, length) + bytecode[_HEADER.size :]
