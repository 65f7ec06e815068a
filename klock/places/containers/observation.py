"""What a container really holds, read from the archive that the engine exports.

The same rules as `klock.layers.scan`, which reads a folder. Some paths are the engine's own in every container (`OWN`),
and some attributes no export shows; of those nothing is said, and the caller fills in what was locked.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Final

from klock.errors import EngineError
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import is_left_out
from klock.workshop.working_dir import folders_to, without_made_folders

__all__ = ["OWN", "manifest_of_export", "without_what_engines_do"]

OWN: Final = frozenset(
    {".dockerenv", "dev", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", "proc", "run", "sys"}
)
"""Paths that an engine makes or mounts in each container: what is there is no part of the environment."""

_ABOVE_OWN: Final = frozenset(path.rpartition("/")[0] for path in OWN if "/" in path)
_SHOWN_XATTRS: Final = ("security.capability",)
_XATTR: Final = "SCHILY.xattr."
_CHUNK: Final = 1 << 18
_KINDS: Final = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.FIFOTYPE: Kind.FIFO,
}


def manifest_of_export(chunks: Iterator[bytes]) -> Manifest:
    """The manifest of an exported container, every path by itself. Raises EngineError for a broken archive."""
    entries: dict[str, Entry] = {}
    try:
        with tarfile.open(
            fileobj=io.BufferedReader(_Chunks(chunks), _CHUNK), mode="r|", encoding="utf-8", errors="surrogateescape"
        ) as archive:
            for member in archive:
                path = _path(member.name)
                kind = _KINDS.get(member.type)
                if path and kind is not None and not is_left_out(path) and path not in OWN:
                    entries[path] = _entry(archive, member, path, kind)
                archive.members = []  # type: ignore[attr-defined]  # tarfile would remember every one
    except tarfile.TarError as error:
        raise EngineError(f"the engine's export of the container is broken: {error}", hint="try again") from error
    return Manifest(_without_links(entries))


def without_what_engines_do(observed: Manifest, locked: Manifest, *, working_dir: str) -> Manifest:
    """`observed` with the locked entries of the engine's own paths, and the locked attributes that no export shows;
    without the folders that the engine made for those paths, and to work in `working_dir`."""
    entries = dict(without_made_folders(observed, locked, (*_ABOVE_OWN, *folders_to(working_dir, locked))))
    for path in OWN:
        if path in locked:
            entries[path] = locked[path]
    for path, entry in observed.items():
        expected = locked.get(path)
        if expected is not None and expected.xattrs:
            hidden = [pair for pair in expected.xattrs if pair[0] not in _SHOWN_XATTRS]
            if hidden:
                entries[path] = replace(entry, xattrs=tuple(sorted({*entry.xattrs, *hidden})))
    return Manifest(entries.values())


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, kind: Kind) -> Entry:
    xattrs = sorted(
        (name.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape").hex())
        for name, value in member.pax_headers.items()
        if name.removeprefix(_XATTR) in _SHOWN_XATTRS
    )
    entry = Entry(path=path, kind=kind, mode=member.mode & 0o7777, uid=member.uid, gid=member.gid, xattrs=tuple(xattrs))
    if kind is Kind.FILE:
        content = archive.extractfile(member)
        assert content is not None
        return replace(entry, size=member.size, digest=_digest(content))
    if kind is Kind.SYMLINK:
        return replace(entry, mode=0o777, target=member.linkname)
    return replace(entry, target=_path(member.linkname)) if kind is Kind.HARDLINK else entry


def _digest(content: IO[bytes]) -> str:
    hasher = hashlib.sha256()
    while chunk := content.read(_CHUNK):
        hasher.update(chunk)
    return f"sha256:{hasher.hexdigest()}"


def _without_links(entries: dict[str, Entry]) -> Iterator[Entry]:
    for path, entry in entries.items():
        target = entries.get(entry.target or "") if entry.kind is Kind.HARDLINK else None
        yield replace(target, path=path) if target is not None else entry


def _path(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


class _Chunks(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        length = min(len(buffer), len(self._rest))
        buffer[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        return length
