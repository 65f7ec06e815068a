"""A layer as a tar archive and back: what is kept, shared, or made a layer of an OCI image (image-spec, layer.md).

    tree and manifest --pack--> archive --unpack_layer--> tree and manifest, whose digest must be the layer's

Equal layers give equal bytes, whoever writes them: members in the manifest's order, numeric owners, one time. Removed
paths are `.wh.` whiteouts. The archive also names the folders above what changed, which the layer leaves as they are:
without them whoever unpacks it could only guess their modes and owners. They are marked (`UNCHANGED`) and have no part
in the layer's digest.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Container, Iterator
from dataclasses import replace
from typing import IO, Final

from klock.digests import Digest
from klock.errors import FetchError, HashMismatch, StoreError
from klock.layers import tar
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import MTIME
from klock.layers.scan import OVERLAY_XATTR, digests_of_files, entry_of, is_whiteout, text_of
from klock.layers.streaming import members_of
from klock.layers.unpack import unpack

__all__ = ["UNCHANGED", "pack", "paths_in", "unpack_layer"]

UNCHANGED: Final = "unchanged"
"""The comment of a folder that is in an archive for its metadata alone."""

_WHITEOUT: Final = ".wh."
_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
_CHUNK: Final = 1 << 20
_KINDS: Final = {
    Kind.FILE: tar.FILE,
    Kind.FOLDER: tar.FOLDER,
    Kind.SYMLINK: tar.SYMLINK,
    Kind.HARDLINK: tar.HARDLINK,
    Kind.FIFO: tar.FIFO,
    Kind.WHITEOUT: tar.FILE,
}


def pack(root: bytes, manifest: Manifest, output: IO[bytes], *, times_of: Container[str] = ()) -> int:
    """Writes the layer that `manifest` describes and `root` holds. Must run where its files may be read.

    `times_of`: paths that keep the time they have on disk, as those of a base do. All others have the one time of
    layers. Returns the latest time, in seconds since 1970.
    Raises StoreError when a file is not the manifest's, or when it has a name that no OCI layer can hold.
    """
    written: set[str] = set()
    latest = MTIME
    for path, entry in manifest.items():
        for above in _folders_above(path):
            if above not in manifest and above not in written:
                written.add(above)
                output.write(_member(_folder_on_disk(root, above), comment=UNCHANGED).header())
        member = _member(_with_owner(entry, manifest))
        if path in times_of:
            # Not every reader of tar knows times before 1970.
            member = replace(member, mtime=max(0, int(os.lstat(root + b"/" + _bytes_of(path)).st_mtime)))
        latest = max(latest, member.mtime)
        output.write(member.header())
        if entry.kind is Kind.FILE:
            _write_content(root, entry, output)
    output.write(tar.END)
    return latest


def _with_owner(entry: Entry, manifest: Manifest) -> Entry:
    """A hard link with the mode, owner and attributes of its file: some readers set the first two again for each name,
    and who sets an owner takes a file's capabilities away."""
    file = manifest.get(entry.target or "") if entry.kind is Kind.HARDLINK else None
    return replace(entry, mode=file.mode, uid=file.uid, gid=file.gid, xattrs=file.xattrs) if file else entry


def _member(entry: Entry, *, comment: str = "") -> tar.Member:
    folder, slash, name = entry.path.rpartition("/")
    if name.startswith(_WHITEOUT) or any("=" in attribute for attribute, _ in entry.xattrs):
        what = "name" if name.startswith(_WHITEOUT) else "attribute"
        raise StoreError(
            f"/{entry.path} has a{'n' if what == 'attribute' else ''} {what} that no layer archive can hold",
            hint="remove it in the step that makes it, or leave it out of the layer",
        )
    written = f"{folder}{slash}{_WHITEOUT}{name}" if entry.kind is Kind.WHITEOUT else entry.path
    return tar.Member(
        name=_bytes_of(written) + (b"/" if entry.kind is Kind.FOLDER else b""),
        kind=_KINDS[entry.kind],
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        mtime=MTIME,
        link=_bytes_of(entry.target or ""),
        xattrs={name: bytes.fromhex(value) for name, value in entry.xattrs},
        comment=comment.encode(),
    )


def _folder_on_disk(root: bytes, path: str) -> Entry:
    on_disk = root + b"/" + _bytes_of(path)
    try:
        status = os.lstat(on_disk)
    except OSError:
        raise _changed(path) from None
    entry = entry_of(on_disk, path, status)
    if entry is None or entry.kind is not Kind.FOLDER:
        raise _changed(path)
    return entry


def _write_content(root: bytes, entry: Entry, output: IO[bytes]) -> None:
    hasher = hashlib.sha256()
    left = entry.size
    try:
        descriptor = os.open(root + b"/" + _bytes_of(entry.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise _changed(entry.path) from None
    with open(descriptor, "rb", buffering=0) as file:
        while left and (chunk := file.read(min(left, _CHUNK))):
            hasher.update(chunk)
            output.write(chunk)
            left -= len(chunk)
    if left or f"sha256:{hasher.hexdigest()}" != entry.digest:
        raise _changed(entry.path)
    output.write(tar.padding(entry.size))


def _changed(path: str) -> StoreError:
    return StoreError(f"/{path} of a layer was changed in the store", hint="run `klock cache clean`, then `klock sync`")


# -- and back


def unpack_layer(
    archive: IO[bytes], *, layer: Digest, source: str, media_type: str | None = None, limit: int | None = None
) -> Manifest:
    """Unpacks what `pack` wrote into `/` and returns its manifest, whose digest is `layer`.

    The archive is compressed as `media_type` says, if it is, and has at most `limit` bytes without that.
    Must run with the root changed to an empty folder, as `klock.layers.unpack.unpack` must, which it relies on for
    everything hostile in an archive. Raises HashMismatch when it is another layer, FetchError for a broken archive.
    """
    unchanged: set[str] = set()

    def watch(member: tarfile.TarInfo) -> None:
        path, is_unchanged = _told(member, source)
        if is_unchanged:
            unchanged.add(path)

    unpack(archive, media_type=media_type or _TAR, diff_id="", source=source, limit=limit, watch=watch)
    manifest = _manifest_of_layer(unchanged, source)
    if manifest.digest != layer:
        raise HashMismatch(
            f"{source} is not the locked layer: locked {layer}, found {manifest.digest}",
            hint="restore the archive, or run `klock lock`",
        )
    return manifest


def paths_in(archive: IO[bytes], *, source: str) -> list[str]:
    """The paths that the layer in an archive changes or removes, as the archive has it: nothing of it was checked."""
    found = []
    for path, is_unchanged in _members(archive, source):
        folder, slash, name = path.rpartition("/")
        if not is_unchanged:
            found.append(f"{folder}{slash}{name.removeprefix(_WHITEOUT)}")
    return found


def _members(archive: IO[bytes], source: str) -> Iterator[tuple[str, bool]]:
    """The path of each member, and whether it is a folder that the archive marks as unchanged."""
    try:
        with tarfile.open(fileobj=archive, mode="r:", encoding="utf-8", errors="surrogateescape") as members:
            for member in members_of(members):
                yield _told(member, source)
    except (tarfile.TarError, ValueError) as error:
        raise FetchError(f"{source} is a broken archive: {error}", hint="fetch it again") from error


def _told(member: tarfile.TarInfo, source: str) -> tuple[str, bool]:
    """The path of a member, and whether it is a folder that the archive marks as unchanged."""
    path = "/".join(part for part in member.name.split("/") if part not in ("", "."))
    if not path:
        raise FetchError(f"{source}: refused: it has an entry for /", hint="do not trust it")
    return path, member.isdir() and member.pax_headers.get("comment") == UNCHANGED


def _manifest_of_layer(unchanged: set[str], source: str) -> Manifest:
    """What was unpacked, in canonical form: with whiteouts and hard links, and the same time everywhere."""
    entries: list[Entry] = []
    files: list[tuple[bytes, Entry, os.stat_result]] = []
    _refuse_notes(b"/", source)
    os.utime(b"/", (MTIME, MTIME))
    for on_disk, path, status in _walk():
        if is_whiteout(status):
            entries.append(Entry(path=path, kind=Kind.WHITEOUT))
            continue
        _refuse_notes(on_disk, source)
        os.utime(on_disk, (MTIME, MTIME), follow_symlinks=False)
        entry = entry_of(on_disk, path, status)
        assert entry is not None
        if entry.kind is Kind.FILE:
            files.append((on_disk, entry, status))
        elif entry.kind is not Kind.FOLDER or path not in unchanged:
            entries.append(entry)
    manifest = Manifest([*entries, *_with_digests(files)])
    needless = unchanged.difference(*(_folders_above(path) for path in manifest))
    if needless:
        raise FetchError(
            f"{source}: refused: /{min(needless)} has a folder's entry, but nothing below it changes",
            hint="do not trust this archive",
        )
    return manifest


def _with_digests(files: list[tuple[bytes, Entry, os.stat_result]]) -> Iterator[Entry]:
    """Each file once with its digest; the other names of it as hard links to the first in a manifest's order."""
    inode_of = {entry.path: (status.st_dev, status.st_ino) for _, entry, status in files}
    on_disk = {inode_of[entry.path]: (path, status.st_size) for path, entry, status in files}
    digests = dict(zip(on_disk, digests_of_files(list(on_disk.values())), strict=True))
    first: dict[tuple[int, int], str] = {}
    for path, entry in Manifest(entry for _, entry, _ in files).items():
        target = first.setdefault(inode_of[path], path)
        if target == path:
            yield replace(entry, digest=digests[inode_of[path]])
        else:
            yield Entry(path=path, kind=Kind.HARDLINK, target=target)


def _walk() -> Iterator[tuple[bytes, str, os.stat_result]]:
    waiting = [(b"/", "")]
    while waiting:
        folder, above = waiting.pop()
        for name in sorted(os.listdir(folder)):
            on_disk, path = folder + name, above + text_of(name)
            status = os.lstat(on_disk)
            yield on_disk, path, status
            if stat.S_ISDIR(status.st_mode):
                waiting.append((on_disk + b"/", path + "/"))


def _refuse_notes(path: bytes, source: str) -> None:
    """An opaque folder hides what is below it, and a manifest would not show that."""
    if any(name.startswith(OVERLAY_XATTR) for name in os.listxattr(path, follow_symlinks=False)):
        raise FetchError(
            f"{source}: refused: {text_of(path)} hides everything below it, which klock's layers never do",
            hint="do not trust this archive",
        )


def _folders_above(path: str) -> Iterator[str]:
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
