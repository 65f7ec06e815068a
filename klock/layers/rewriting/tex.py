"""Puts in order what TeX's programs write in the order of a disk or of a hash table, and takes a time out of a format.

`mktexlsr` lists folders as the disk does: `ls-R` is a database of names, in which the order means nothing. LuaTeX keeps
the words that hyphenation makes an exception of in a Lua table, whose order is another one in each process, and dumps
them into its formats. Format: LuaTeX's `lang/texlang.c` (`dump_one_language`) in a gzip file; integers are big-endian.
Knuth's TeX, unlike the others, does not look at FORCE_SOURCE_DATE. Format: "TeX: The Program", sections 236 and 1316.
"""

from __future__ import annotations

import re
import struct
import time
import zlib
from typing import Final

__all__ = ["sorted_names", "with_sorted_exceptions", "without_time"]

_LS_R: Final = b"% ls-R -- filename database for kpathsea; do not change this line.\n\n"
_TOP: Final = b"./:\n"

_GZIP: Final = b"\x1f\x8b\x08\x00"
_FORMAT: Final = re.compile(rb"W2TX.{4}\0\0\0.lua", re.DOTALL)
_WORDS: Final = re.compile(rb"(?<=\0)\0\0([\0-\xff]{2})((?: [^\0- ]+)+)\0")
"""After the patterns of a language, which NUL ends: how many bytes follow, each word after a space, NUL."""

_TEX: Final = b"W2TX\0\0\0\x04tex\0"
_INT: Final = struct.Struct(">I")
_WHEN: Final = re.compile(rb"(\0\0[\0-\5].)(.{4})(\0\0\0[\1-\x1f])\2(\0\0\0[\1-\x0c])\2(\0\0[\7\x08].)\2", re.DOTALL)
_WHEN_DAY_IS_MONTH: Final = re.compile(
    rb"(\0\0[\0-\5].)(.{4})(\0\0\0[\1-\x0c])\2\0\0\0\1(\0\0..)(\0\0[\7\x08].)\2", re.DOTALL
)
r"""\time, \day, \month and \year, each with what else is in a word of memory: the same for all of them.

TeX counts words that differ from the next, writes them, and counts those that follow and are equal: twice the same
number, for the day and the month, ends a run of words and begins another."""

_LARGEST: Final = 64 << 20
_STORED: Final = 0xFFFF
"""The most bytes of a block of RFC 1951 that is not compressed."""


def sorted_names(database: bytes) -> bytes:
    """A database of names with folders, and the names in each, in sorted order; other bytes come back unchanged."""
    if not database.startswith(_LS_R + _TOP):
        return database
    text = database[len(_LS_R) :].rstrip(b"\n")
    blocks = [block.split(b"\n") for block in text.split(b"\n\n")]
    if not all(folder.endswith(b":") for folder, *_ in blocks):
        return database
    ordered = sorted((folder.removesuffix(b":"), sorted(names)) for folder, *names in blocks)
    ending = database[len(_LS_R) + len(text) :]
    return _LS_R + b"\n\n".join(b"\n".join([folder + b":", *names]) for folder, names in ordered) + ending


def without_time(dump: bytes, *, seconds: int) -> bytes:
    """A format of Knuth's TeX as if it was made `seconds` after 1970; bytes of another format come back unchanged."""
    if not dump.startswith(_TEX):
        return dump
    when = time.gmtime(seconds)
    numbers = (when.tm_hour * 60 + when.tm_min, when.tm_mday, when.tm_mon, when.tm_year)
    for expression in (_WHEN, _WHEN_DAY_IS_MONTH):
        found = list(expression.finditer(dump))
        if len(found) == 1:
            words = b"".join(_INT.pack(number) + found[0][2] for number in numbers)
            rewritten = dump[: found[0].start()] + words + dump[found[0].end() :]
            return rewritten if expression is _WHEN else _as_one_run(dump, rewritten, found[0])
    return dump


def _as_one_run(dump: bytes, rewritten: bytes, found: re.Match[bytes]) -> bytes:
    """`rewritten` with the count of the run before the day and of the one after the month added up."""
    at = found.start() - 4
    while at >= 8 and dump[at : at + 4] == found[2]:
        at -= 8
    before, after = _INT.unpack_from(dump, at)[0], _INT.unpack(found[4])[0]
    if before != (found.start() - 4 - at) // 8 + 2:
        return dump
    return rewritten[:at] + _INT.pack(before + 1 + after) + rewritten[at + 4 :]


def with_sorted_exceptions(dump: bytes) -> bytes:
    """A format of LuaTeX with the words of each language in sorted order; bytes of another format come back unchanged.

    It is no longer compressed: what a compressor makes depends on its version.
    """
    if not dump.startswith(_GZIP):
        return dump
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        content = unzip.decompress(dump, _LARGEST)
    except zlib.error:
        return dump
    if not unzip.eof or unzip.unused_data or not _FORMAT.match(content):
        return dump
    return _stored(_WORDS.sub(_sorted, content))


def _sorted(found: re.Match[bytes]) -> bytes:
    (length,) = struct.unpack(">H", found[1])
    words = found[2]
    if length != len(words) + 1 or b"-" not in words:
        return found[0]
    return b"\0\0" + found[1] + b" " + b" ".join(sorted(words[1:].split(b" "))) + b"\0"


def _stored(content: bytes) -> bytes:
    """A gzip file (RFC 1952) of blocks that are not compressed."""
    starts = range(0, len(content), _STORED)
    blocks = bytearray(_GZIP + bytes(5) + b"\x03")
    for start in starts:
        block = content[start : start + _STORED]
        blocks += struct.pack("<BHH", start == starts[-1], len(block), len(block) ^ 0xFFFF) + block
    return bytes(blocks) + struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
