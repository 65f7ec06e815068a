"""What the layers of an image show together, read off their archives as they stream by: nothing is unpacked.

Gives the manifest that `klock.layers.scan.manifest_of_tree` gives of the unpacked layers. An archive in which one
member leads through another one that is a symlink says different things to different readers, and is refused.
"""

from __future__ import annotations

import hashlib
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from klock.digests import Digest
from klock.errors import FetchError, HashMismatch
from klock.layers.decompression import Uncompressed
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import is_left_out
from klock.layers.streaming import BUFFER, members_of, open_stream
from klock.layers.unpack import BROKEN_ARCHIVE, is_kept_xattr, xattr_value
from klock.values import dataclass

__all__ = ["ArchivedLayer", "list_layers", "read_layers"]

_CHUNK: Final = 1 << 20
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_AUFS: Final = ".wh..wh."
_XATTR: Final = "SCHILY.xattr."
_KINDS: Final = {
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.FIFOTYPE: Kind.FIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedLayer:
    """A layer of an image: an archive, compressed as `media_type` says, with the digest of what is in it."""

    path: Path
    media_type: str
    diff_id: Digest
    name: str


def list_layers(layers: Sequence[ArchivedLayer]) -> Manifest:
    """The manifest of all layers, the lowest first. Raises HashMismatch, FetchError."""
    shown: dict[str, Entry] = {}
    for layer in layers:
        changes = _Changes(layer.name)
        for tar, member in _members(layer):
            changes.take(tar, member)
        changes.apply_to(shown)
    return Manifest(entry for path, entry in shown.items() if not is_left_out(path))


def read_layers(
    layers: Sequence[ArchivedLayer], wanted: Callable[[str], bool], use: Callable[[str, IO[bytes]], None]
) -> None:
    """Calls `use` with each file whose path is `wanted`, from the lowest layer to the highest: the last one counts."""
    for layer in layers:
        for tar, member in _members(layer):
            path = _path(member.name, layer.name)
            if member.isreg() and wanted(path) and (content := tar.extractfile(member)) is not None:
                use(path, content)


def _members(layer: ArchivedLayer) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    with _explained(layer.name), open(layer.path, "rb") as archive:
        with Uncompressed(archive, layer.media_type, layer.name) as plain:
            with open_stream(plain.content) as tar:
                for member in members_of(tar):
                    yield tar, member
            while plain.content.read(BUFFER):
                pass
        if layer.diff_id and plain.digest != layer.diff_id:
            raise HashMismatch(
                f"{layer.name}: hash mismatch: its uncompressed digest is {plain.digest}, the locked one is "
                f"{layer.diff_id}",
                hint="find out who changed the archive before you lock again",
            )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except BROKEN_ARCHIVE as error:
        raise FetchError(f"{name} is a broken archive: {error}", hint="fetch it again") from error


def _path(name: str, source: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise FetchError(
            f"{source}: refused: the name {name!r} leads out of the layer", hint="do not trust this archive"
        )
    return "/".join(parts)


class _Changes:
    """One layer's members: `entries` it has, `hidden` paths below which, or at which, nothing of lower layers shows."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._entries: dict[str, Entry] = {}
        self._removed: set[str] = set()
        self._opaque: set[str] = set()

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = _path(member.name, self._source)
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            self._opaque.add(folder)
        elif name.startswith(_AUFS) or not path:
            return
        elif name.startswith(_WHITEOUT):
            self._removed.add(f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/"))
        elif member.isreg() or member.type in _KINDS:
            self._refuse_behind_link(path)
            self._put(self._entry(tar, member, path))

    def _refuse_behind_link(self, path: str) -> None:
        above = path.rpartition("/")[0]
        while above:
            if above in self._entries and self._entries[above].kind is not Kind.FOLDER:
                raise FetchError(
                    f"{self._source}: /{path} is behind /{above}, which is not a folder, so it can be read only "
                    "where it can be unpacked",
                    hint="lock on a machine that can make a sandbox for it",
                )
            above = above.rpartition("/")[0]

    def _put(self, entry: Entry) -> None:
        before = self._entries.get(entry.path)
        if before is not None and before.kind is Kind.FOLDER and entry.kind is not Kind.FOLDER:
            for other in [path for path in self._entries if path.startswith(f"{entry.path}/")]:
                del self._entries[other]
        self._entries[entry.path] = entry

    def _entry(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Entry:
        kind = _KINDS.get(member.type, Kind.FILE)
        entry = Entry(
            path=path,
            kind=kind,
            mode=0o777 if kind is Kind.SYMLINK else stat.S_IMODE(member.mode),
            uid=member.uid,
            gid=member.gid,
            xattrs=_xattrs(member),
        )
        if kind is Kind.SYMLINK:
            return replace(entry, target=member.linkname)
        if kind is Kind.HARDLINK:
            target = self._entries.get(_path(member.linkname, self._source))
            if target is None or target.kind is Kind.FOLDER:
                raise FetchError(
                    f"{self._source}: refused: /{path} is a hard link to /{member.linkname}, which is not a file of "
                    "the layer",
                    hint="do not trust this archive",
                )
            return replace(target, path=path)
        if kind is Kind.FILE:
            content = tar.extractfile(member)
            assert content is not None
            hasher, size = hashlib.sha256(), 0
            while chunk := content.read(_CHUNK):
                hasher.update(chunk)
                size += len(chunk)
            return replace(entry, size=size, digest=f"sha256:{hasher.hexdigest()}")
        return entry

    def apply_to(self, shown: dict[str, Entry]) -> None:
        gone = [path for path in shown if self._hides(path)]
        for path in gone:
            del shown[path]
        for path, entry in self._entries.items():
            above = path.rpartition("/")[0]
            while above and shown.get(above, entry).kind is not Kind.FOLDER and above not in self._entries:
                # What is there is no folder, so it is replaced by one, as it is when the layer is unpacked.
                shown[above] = Entry(path=above, kind=Kind.FOLDER, mode=0o755)
                above = above.rpartition("/")[0]
        shown.update(self._entries)
        for path in list(self._entries):
            above = path.rpartition("/")[0]
            while above and above not in shown:
                shown[above] = Entry(path=above, kind=Kind.FOLDER, mode=0o755)
                above = above.rpartition("/")[0]

    def _hides(self, path: str) -> bool:
        if path in self._removed and path not in self._entries:
            return True
        above = path
        while above := above.rpartition("/")[0]:
            there = self._entries.get(above)
            if above in self._opaque or above in self._removed or (there and there.kind is not Kind.FOLDER):
                return True
        return "" in self._opaque


def _xattrs(member: tarfile.TarInfo) -> tuple[tuple[str, str], ...]:
    found = []
    for header, text in member.pax_headers.items():
        name = header.removeprefix(_XATTR)
        if name != header and is_kept_xattr(name):
            found.append((name, xattr_value(name, text).hex()))
    return tuple(sorted(found))
