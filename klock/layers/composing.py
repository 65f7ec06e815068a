"""Composes the manifest of a layer from the manifests of its parts, without a look at any file.

A composed layer lists files, symlinks and whiteouts only: which folders are there already is a matter of what it lies
upon, so its digest depends on its parts alone. `Manifest.apply` adds the folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from klock.layers.manifest import HEADER, Entry, Kind, Manifest, escaped, unescaped
from klock.values import dataclass
from klock.words import counted

__all__ = ["Clash", "Part", "compose", "folders_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A tree that goes into a layer. `name` is for messages, `manifest` has files and symlinks only."""

    name: str
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """`first` and `last` are names of parts that hold `path`, the first of `count`, with different content: that of
    `last` is seen. `is_folder`: what is a file in one is a folder in the other, so that both cannot be there."""

    first: str
    last: str
    path: str
    count: int = 1
    is_folder: bool = False

    def __str__(self) -> str:
        more = f" and {counted(self.count - 1, 'more path')}" if self.count > 1 else ""
        return f"{self.first} and {self.last} both bring /{self.path}{more}, with different bytes"


def compose(parts: Sequence[Part], *, removed: Iterable[str] = ()) -> tuple[Manifest, list[Clash]]:
    """The layer in which later parts lie over earlier ones, and `removed` paths that none of them has are gone."""
    lines: dict[bytes, bytes] = {}
    owners: dict[bytes, str] = {}
    clashing: dict[tuple[str, str], list[bytes]] = {}
    for part in parts:
        for line in part.manifest.lines():
            path = line[: line.index(b" ")]
            before = lines.get(path)
            if before is not None and before != line:
                clashing.setdefault((owners[path], part.name), []).append(path)
            lines[path] = line
            owners[path] = part.name
    clashes = [
        Clash(first=first, last=last, path=unescaped(min(paths)), count=len(paths))
        for (first, last), paths in sorted(clashing.items())
    ]
    for folder in sorted(folders_of(lines) & lines.keys()):
        inside = next(path for path in lines if path.startswith(folder + b"/"))
        clashes.append(Clash(first=owners[folder], last=owners[inside], path=unescaped(folder), is_folder=True))
    for name in removed:
        key = escaped(name)
        lines.setdefault(key, Entry(path=name, kind=Kind.WHITEOUT).to_line().rstrip("\n").encode("ascii"))
    content = b"".join([HEADER.encode("ascii"), *(lines[path] + b"\n" for path in sorted(lines))])
    return Manifest.of_own(content), clashes


def folders_of(paths: Iterable[bytes]) -> set[bytes]:
    """All folders above escaped paths."""
    found: set[bytes] = set()
    for path in paths:
        above = path.rpartition(b"/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition(b"/")[0]
    return found
