"""The header of one member of a tar archive, with one spelling for one member.

POSIX ustar, with a pax header before it for what does not fit: long names and names beyond ASCII, ids and sizes beyond
the octal fields, extended attributes (as `SCHILY.xattr.NAME`, which GNU tar, libarchive and Go's archive/tar read).
Written here and not by `tarfile`, whose bytes are its own affair and may change with Python's version: digests of
archives are locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from klock.values import dataclass

__all__ = ["END", "FIFO", "FILE", "FOLDER", "HARDLINK", "SYMLINK", "Member", "padding"]

FILE: Final = b"0"
HARDLINK: Final = b"1"
SYMLINK: Final = b"2"
FOLDER: Final = b"5"
FIFO: Final = b"6"

END: Final = bytes(1024)
"""What follows the last member."""

_PAX: Final = b"x"
_BLOCK: Final = 512
_XATTR: Final = "SCHILY.xattr."


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """`name` and `link` are bytes as they are on disk; `mtime` in seconds. `comment` is for whoever looks for it: POSIX
    has readers pass over it. Raises ValueError for an attribute whose name holds an equals sign."""

    name: bytes
    kind: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    comment: bytes = b""

    def header(self) -> bytes:
        """Everything before the content."""
        records = self._records()
        block = self._block(self.name, self.kind, self.size)
        if not records:
            return block
        body = b"".join(_record(key, value) for key, value in sorted(records.items()))
        before = Member(name=b"././@PaxHeader", kind=_PAX, size=len(body))
        return before._block(before.name, _PAX, len(body)) + body + padding(len(body)) + block

    def _records(self) -> dict[bytes, bytes]:
        records: dict[bytes, bytes] = {}
        for key, text in ((b"path", self.name), (b"linkpath", self.link)):
            if len(text) > 100 or not text.isascii():
                records[key] = text
        for key, number, digits in ((b"uid", self.uid, 7), (b"gid", self.gid, 7), (b"size", self.size, 11)):
            if number >= 8**digits:
                records[key] = b"%d" % number
        for name, value in self.xattrs.items():
            if "=" in name:
                raise ValueError(f"no tar archive can hold the attribute {name!r}")
            records[(_XATTR + name).encode("utf-8", "surrogateescape")] = value
        if self.comment:
            records[b"comment"] = self.comment
        return records

    def _block(self, name: bytes, kind: bytes, size: int) -> bytes:
        fields = [
            name[:100].ljust(100, b"\0"),
            _octal(self.mode, 7),
            _octal(self.uid, 7),
            _octal(self.gid, 7),
            _octal(size, 11),
            _octal(self.mtime, 11),
            b" " * 8,  # the checksum's own place counts as spaces
            kind,
            self.link[:100].ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            _octal(0, 7) * 2,
            bytes(167),
        ]
        block = b"".join(fields)
        return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> bytes:
    """What fills the last block of `size` bytes."""
    return bytes(-size % _BLOCK)


def _octal(number: int, digits: int) -> bytes:
    """Zero for what does not fit: the pax header has it."""
    return b"%0*o\0" % (digits, number if number < 8**digits else 0)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value` and a newline, where the length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
