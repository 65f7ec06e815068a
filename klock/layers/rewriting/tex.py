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
_RUNS: Final = tuple(
    (words, repeated, re.compile(expression, re.DOTALL))
    for words, repeated, expression in (
        (4, 0, rb"\0\0[\0-\5].(?P<tag>.{4})\0\0\0[\1-\x1f](?P=tag)\0\0\0[\1-\x0c](?P=tag)\0\0[\7\x08].(?P=tag)"),
        (2, 1, rb"\0\0[\0-\5].(?P<tag>.{4})\0\0\0[\1-\x0c](?P=tag)\0\0\0\x01(?P<next>\0\0..)\0\0[\7\x08].(?P=tag)"),
        (1, 1, rb"\0\0\0[\1-\x1f](?P<tag>.{4})\0\0\0\x01(?P<next>\0\0..)\0\0\0[\1-\x0c](?P=tag)\0\0[\7\x08].(?P=tag)"),
        (1, 2, rb"\0\0\0[\1-\x0c](?P<tag>.{4})\0\0\0\x02(?P<next>\0\0..)\0\0[\7\x08].(?P=tag)"),
    )
)
r"""\time, \day, \month and \year, each with what else is in a word of memory: the same for all of them.

TeX counts words up to one that is equal to the next, writes them, counts those that follow and are equal, and begins
again. So the four are in one run, or the day is the month, the minute is the day, or both. For each of these: how many
of the four are in the first run, and how many are only counted."""

_IDENT: Final = re.compile(rb" \(preloaded format=[^\0-\x20()]{1,99} (\d{4}\.\d\d?\.\d\d?)\)")
"""The last string of the pool of strings."""

_SEARCHED: Final = 4096
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
    dump = _with_date(dump, b"%d.%d.%d" % when[:3])
    numbers = (when.tm_hour * 60 + when.tm_min, when.tm_mday, when.tm_mon, when.tm_year)
    for words, repeated, expression in _RUNS:
        found = list(expression.finditer(dump))
        if len(found) == 1:
            start, end, tag = found[0].start(), found[0].end(), found[0]["tag"]
            together = b"".join(_INT.pack(number) + tag for number in numbers)
            if not repeated:
                return dump[:start] + together + dump[end:]
            at, before = _count_before(dump, start, tag)
            if before != (start - at) // 8 + words:
                return dump
            count = before + repeated + _INT.unpack(found[0]["next"])[0]
            return dump[:at] + _INT.pack(count) + dump[at + 4 : start] + together + dump[end:]
    return dump


def _with_date(dump: bytes, date: bytes) -> bytes:
    """The format with another date in its name. Where a pool of strings ends is said before it, in bytes: twice."""
    if len(found := list(_IDENT.finditer(dump))) != 1:
        return dump
    end, (first, last) = found[0].end(), found[0].span(1)
    for at in range(len(_TEX), min(end, _SEARCHED) - 8):
        pool, strings = _INT.unpack_from(dump, at)[0], _INT.unpack_from(dump, at + 4)[0]
        start = at + 8 + 4 * (strings + 1)
        if start + pool == end and dump[start - 4 : start] == _INT.pack(pool):
            size = _INT.pack(pool + len(date) - (last - first))
            before = dump[:at] + size + dump[at + 4 : start - 4] + size + dump[start:first]
            return before + date + dump[last:]
    return dump


def _count_before(dump: bytes, start: int, tag: bytes) -> tuple[int, int]:
    """Where the count of the run stands to which the words before `start` belong, and that count."""
    at = start - 4
    while at >= 8 and dump[at : at + 4] == tag:
        at -= 8
    return at, _INT.unpack_from(dump, at)[0]


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
