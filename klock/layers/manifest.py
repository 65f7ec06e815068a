"""A manifest says what a tree of files is, one line an entry, sorted: the form whose SHA-256 is a layer's digest.

A layer is described by what it changes: the entries it adds or replaces, and *whiteouts* for what it removes. The
digest is taken of the manifest rather than of a tar archive, so that two manifests that differ also say where, hashing
can use every core, and an environment in any place can be compared without being packed. Modification times take no
part: every file of a layer gets the same one (`klock.layers.normalisation.MTIME`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeAlias

from klock.digests import Digest, digest_of_bytes
from klock.errors import StoreError

__all__ = ["Entry", "Kind", "Manifest", "escaped", "line_of_file", "unescaped"]

HEADER: Final = "klock-manifest 1\n"
_SPACES: Final = 6
"""In each line."""


class Kind(Enum):
    FILE = "file"
    FOLDER = "dir"
    SYMLINK = "symlink"
    HARDLINK = "link"
    FIFO = "fifo"
    WHITEOUT = "whiteout"


# Of the standard library, for a tree has tens of thousands: see `klock.values`.
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


_Found: TypeAlias = dict[str, Entry | bytes]
"""By path an entry, or its line without the end while nobody has asked for the entry: most are only compared."""


class Manifest(Mapping[str, Entry]):
    """Entries by path, in sort order of their escaped paths."""

    __slots__ = ("_content", "_known")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._known: _Found | None = {e.path: e for e in sorted(entries, key=lambda e: _escape(e.path))}
        self._content: bytes | None = None

    @classmethod
    def _of(cls, known: _Found | None, content: bytes | None = None) -> Manifest:
        made = cls()
        made._known, made._content = known, content
        return made

    @property
    def _found(self) -> _Found:
        if self._known is None:
            lines = self.lines()
            try:
                if any(line.count(b" ") != _SPACES for line in lines):
                    raise ValueError("a line has not seven fields")
                self._known = {_path_of(line): line for line in lines}
            except ValueError as error:
                raise _damaged(error) from error
        return self._known

    def __getitem__(self, path: str) -> Entry:
        found = self._found[path]
        if isinstance(found, bytes):
            try:
                found = self._found[path] = Entry.from_line(found.decode("ascii"))
            except ValueError as error:
                raise _damaged(error) from error
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __contains__(self, path: object) -> bool:
        return path in self._found

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
            self._content = b"\n".join([HEADER.encode("ascii").rstrip(), *map(_line_of, self._found.values()), b""])
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
            raise _damaged(error) from error

    @classmethod
    def of_own(cls, content: bytes) -> Manifest:
        """What `to_bytes` gave here, or what has its known digest: parsed only when an entry is asked for.

        Raises StoreError for what is not a manifest at all.
        """
        if not content.startswith(HEADER.encode("ascii")) or not content.endswith(b"\n"):
            raise StoreError("a damaged manifest in the store: it is cut off")
        return cls._of(None, content)

    @classmethod
    def of_lines(cls, lines: Iterable[bytes]) -> Manifest:
        """Of lines as `to_bytes` writes them, without their ends, in any order; each path has one."""
        # A space sorts before all that an escaped path can have, so lines have the order of their paths.
        return cls.of_own(b"\n".join([HEADER.encode("ascii").rstrip(), *sorted(lines), b""]))

    def differing(self, other: Manifest) -> list[str]:
        """The paths of which the two do not say the same, sorted."""
        if self._content is not None and self._content == other._content:
            return []
        mine, others = self._found, other._found
        suspects = [path for path, found in mine.items() if others.get(path) != found]
        suspects += [path for path in others if path not in mine]
        return sorted(path for path in suspects if self.get(path) != other.get(path))

    def without_links(self) -> Manifest:
        """The same tree with every hard link written as the file that it is."""
        found = self._found
        links = [self[path] for path, each in found.items() if _is_link(each)]
        files = {e.path: replace(self[e.target], path=e.path) for e in links if e.target in found}
        return Manifest._of({**found, **files}) if files else self

    def apply(self, layer: Manifest) -> Manifest:
        """The tree that is seen when `layer` lies over this one: its whiteouts remove, its other entries replace.

        A folder that is not there, and that the layer does not list, is root's and has mode 0755.

        The result has no hard links: overlayfs cuts them when a layer changes one of the names, so only the files they
        stand for can be said of a tree. An observed tree has none either.
        """
        entries = dict(self.without_links()._found)
        others = layer.without_links()
        is_sorted = True
        for path, found in others._found.items():
            kind = _kind_of(found)
            old = entries.get(path)
            if old is not None and kind != _FOLDER and _kind_of(old) == _FOLDER:
                below = path + "/"
                for other in [p for p in entries if p.startswith(below)]:
                    del entries[other]
            if kind == _WHITEOUT:
                entries.pop(path, None)
            else:
                is_sorted = is_sorted and old is not None
                entries[path] = found
                is_sorted = not _add_folders_above(path, entries) and is_sorted
        if is_sorted:
            return Manifest._of(entries)
        return Manifest._of(dict(sorted(entries.items(), key=_place_of)))


def _add_folders_above(path: str, entries: _Found) -> bool:
    """Whether there was one to be added."""
    added = False
    above = path.rpartition("/")[0]
    while above and above not in entries:
        entries[above] = Entry(path=above, kind=Kind.FOLDER, mode=0o755)
        above = above.rpartition("/")[0]
        added = True
    return added


_FOLDER: Final = b"dir"
_WHITEOUT: Final = b"whiteout"


def _kind_of(found: Entry | bytes) -> bytes:
    return found.split(b" ", 2)[1] if isinstance(found, bytes) else found.kind.value.encode("ascii")


def _is_link(found: Entry | bytes) -> bool:
    """Asked of each path. No field has a space in it."""
    return b" link " in found if isinstance(found, bytes) else found.kind is Kind.HARDLINK


def _line_of(found: Entry | bytes) -> bytes:
    return found if isinstance(found, bytes) else found.to_line().rstrip("\n").encode("ascii")


def _place_of(item: tuple[str, Entry | bytes]) -> bytes:
    """Where a path stands among others. A line begins with it, and the space after it sorts before all it can have."""
    path, found = item
    return found if isinstance(found, bytes) else escaped(path) + b" "


def _path_of(line: bytes) -> str:
    path = line.partition(b" ")[0]
    return _unescape(path.decode("ascii")) if b"\\" in path else path.decode("ascii")


def _damaged(error: ValueError) -> StoreError:
    return StoreError(f"a damaged manifest in the store: {error}")


def line_of_file(path: bytes, status: os.stat_result, digest: Digest) -> bytes:
    """The line, without its end, of a regular file without attributes: what its `Entry` would give, for many files.

    `path` is as it is on disk, relative to the root.
    """
    name = _UNSAFE.sub(lambda m: b"\\x%02x" % m[0][0], path) if _UNSAFE.search(path) else path
    mode = stat.S_IMODE(status.st_mode)
    what = digest.encode("ascii")
    return b"%s file %04o %d:%d %d %s -" % (name, mode, status.st_uid, status.st_gid, status.st_size, what)


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
