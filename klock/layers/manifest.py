"""A manifest says what a tree of files is, one line an entry, sorted: the form whose SHA-256 is a layer's digest.

A layer is described by what it changes: the entries it adds or replaces, and *whiteouts* for what it removes. The
digest is taken of the manifest rather than of a tar archive, so that two manifests that differ also say where, hashing
can use every core, and an environment in any place can be compared without being packed. Modification times take no
part: every file of a layer gets the same one (`klock.layers.normalisation.MTIME`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from klock.digests import Digest, digest_of_bytes
from klock.errors import StoreError

__all__ = ["Entry", "Kind", "Manifest", "escaped", "unescaped"]

HEADER: Final = "klock-manifest 1\n"


class Kind(Enum):
    FILE = "file"
    FOLDER = "dir"
    SYMLINK = "symlink"
    HARDLINK = "link"
    FIFO = "fifo"
    WHITEOUT = "whiteout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path. `path` is relative to the root, without a leading slash (undecodable bytes as surrogate escapes).

    `size` (bytes) and `digest` belong to files, `target` to symlinks (their text) and hard links (the first path of
    the same file in sort order). `xattrs` are names and hex values, sorted. A whiteout has only a path.
    """

    path: str
    kind: Kind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    digest: Digest | None = None
    target: str | None = None
    xattrs: tuple[tuple[str, str], ...] = ()

    def to_line(self) -> str:
        what = self.digest or (_escape(self.target) if self.target is not None else "-")
        xattrs = ",".join(f"{_escape(name)}={value}" for name, value in self.xattrs) or "-"
        owner = f"{self.uid}:{self.gid}"
        return f"{_escape(self.path)} {self.kind.value} {self.mode:04o} {owner} {self.size} {what} {xattrs}\n"

    @classmethod
    def from_line(cls, line: str) -> Entry:
        path, kind_name, mode, owner, size, what, xattrs = line.rstrip("\n").split(" ")
        kind = Kind(kind_name)
        uid, _, gid = owner.partition(":")
        return cls(
            path=_unescape(path),
            kind=kind,
            mode=int(mode, 8),
            uid=int(uid),
            gid=int(gid),
            size=int(size),
            digest=what if kind is Kind.FILE else None,
            target=_unescape(what) if kind in (Kind.SYMLINK, Kind.HARDLINK) else None,
            xattrs=()
            if xattrs == "-"
            else tuple((_unescape(n), v) for n, _, v in (x.partition("=") for x in xattrs.split(","))),
        )


class Manifest(Mapping[str, Entry]):
    """Entries by path, in sort order of their escaped paths."""

    __slots__ = ("_content", "_known")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._known: dict[str, Entry] | None = {e.path: e for e in sorted(entries, key=lambda e: _escape(e.path))}
        self._content: bytes | None = None

    @property
    def _entries(self) -> dict[str, Entry]:
        if self._known is None:
            try:
                lines = self.to_bytes().decode("ascii").splitlines()
                self._known = {e.path: e for e in map(Entry.from_line, lines[1:])}
            except ValueError as error:
                raise StoreError(f"a damaged manifest in the store: {error}") from error
        return self._known

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._known) if self._known is not None else self.to_bytes().count(b"\n") - 1

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(int(line.split(b" ", 5)[4]) for line in self.lines())

    @property
    def digest(self) -> Digest:
        return digest_of_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        if self._content is None:
            lines = (e.to_line() for e in self._entries.values())
            self._content = (HEADER + "".join(lines)).encode("ascii")
        return self._content

    def lines(self) -> list[bytes]:
        """The lines of the entries, in order, without their ends. Each begins with the escaped path and a space."""
        return self.to_bytes().split(b"\n")[1:-1]

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Reads what `to_bytes` wrote. Raises StoreError."""
        try:
            text = content.decode("ascii")
            if not text.startswith(HEADER):
                raise ValueError("no manifest header")
            return cls(Entry.from_line(line) for line in text.splitlines()[1:])
        except ValueError as error:
            raise StoreError(f"a damaged manifest in the store: {error}") from error

    @classmethod
    def of_own(cls, content: bytes) -> Manifest:
        """What `to_bytes` gave here, or what has its known digest: parsed only when an entry is asked for.

        Raises StoreError for what is no manifest at all.
        """
        if not content.startswith(HEADER.encode("ascii")) or not content.endswith(b"\n"):
            raise StoreError("a damaged manifest in the store: it is cut off")
        made = cls()
        made._known, made._content = None, content
        return made

    def without_links(self) -> Manifest:
        """The same tree with every hard link written as the file that it is."""
        links = [e for e in self._entries.values() if e.kind is Kind.HARDLINK and e.target in self._entries]
        if not links:
            return self
        files = {e.path: replace(self._entries[e.target], path=e.path) for e in links if e.target is not None}
        return Manifest({**self._entries, **files}.values())

    def apply(self, layer: Manifest) -> Manifest:
        """The tree that is seen when `layer` lies over this one: its whiteouts remove, its other entries replace.

        A folder that is not there, and that the layer does not list, is root's and has mode 0755.

        The result has no hard links: overlayfs cuts them when a layer changes one of the names, so only the files they
        stand for can be said of a tree. An observed tree has none either.
        """
        entries = dict(self.without_links()._entries)
        for path, entry in layer.without_links().items():
            old = entries.get(path)
            if old and old.kind is Kind.FOLDER and entry.kind is not Kind.FOLDER:
                below = path + "/"
                for other in [p for p in entries if p.startswith(below)]:
                    del entries[other]
            if entry.kind is Kind.WHITEOUT:
                entries.pop(path, None)
            else:
                entries[path] = entry
                _add_folders_above(path, entries)
        return Manifest(entries.values())


def _add_folders_above(path: str, entries: dict[str, Entry]) -> None:
    above = path.rpartition("/")[0]
    while above and above not in entries:
        entries[above] = Entry(path=above, kind=Kind.FOLDER, mode=0o755)
        above = above.rpartition("/")[0]


def escaped(path: str) -> bytes:
    """A path as it begins a line of a manifest."""
    return _escape(path).encode("ascii")


def unescaped(path: bytes) -> str:
    return _unescape(path.decode("ascii"))


_UNSAFE: Final = re.compile(rb"[^!-\[\]-~]|[,=]")
_ESCAPED: Final = re.compile(rb"\\x([0-9a-f]{2})")


def _escape(text: str) -> str:
    r"""Printable ASCII without space, comma, equals or backslash; any other byte is written `\x..`."""
    raw = text.encode("utf-8", "surrogateescape")
    return _UNSAFE.sub(lambda m: b"\\x%02x" % m[0][0], raw).decode("ascii")


def _unescape(text: str) -> str:
    raw = _ESCAPED.sub(lambda m: bytes([int(m[1], 16)]), text.encode("ascii"))
    return raw.decode("utf-8", "surrogateescape")
