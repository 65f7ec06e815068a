"""Unpacks one layer archive of an OCI image into an empty folder, and checks that its bytes are the locked ones; or the
files of a package over what is there.

Formats: OCI image-spec `layer.md` (changesets, whiteouts), deb(5), POSIX pax and GNU tar. An archive is hostile until
its digest was seen, and may be so after. Two walls stand around it: names that leave the root are refused here, and the
caller changes root into the destination first, so that no symlink can lead out of it.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final

from klock.digests import Digest
from klock.errors import FetchError, HashMismatch
from klock.layers.decompression import Uncompressed
from klock.layers.scan import MEANINGFUL_XATTRS, OVERLAY_XATTR, text_of
from klock.layers.streaming import BUFFER, members_of, open_stream
from klock.walking import remove_tree

__all__ = ["BROKEN_ARCHIVE", "is_kept_xattr", "unpack", "unpack_package", "xattr_value"]

_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_AUFS: Final = b".wh..wh."
_OPAQUE_XATTR: Final = OVERLAY_XATTR + "opaque"
_ZEROS: Final = bytes(BUFFER)
_XATTR: Final = "SCHILY.xattr."
_SMALL: Final = 1 << 20
"""Bytes of a file that may as well be written until the disk is full."""
_TOO_MUCH: Final = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
# Links that lead through one another: what one member makes, another takes away.
_OF_ONE_ANOTHER: Final = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY)
BROKEN_ARCHIVE: Final = (
    tarfile.TarError,
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    ValueError,
    OverflowError,
    RecursionError,
)


def unpack(
    archive: IO[bytes],
    *,
    media_type: str,
    diff_id: Digest,
    source: str,
    limit: int | None = None,
    watch: Callable[[tarfile.TarInfo], None] | None = None,
) -> Digest:
    """Unpacks into `/` and returns the digest of the uncompressed archive, which has at most `limit` bytes.

    Must run with the root changed to an empty folder, where the ids in the archive are mapped. `diff_id` "" means that
    the digest is not known. `source` names the archive in messages. `watch` is shown each member before it is unpacked.
    Raises HashMismatch for other bytes, FetchError for an archive that is broken, hostile or does not fit.
    """
    with _explained(source), Uncompressed(archive, media_type, source, limit=limit) as plain:
        with open_stream(plain.content) as tar:
            _Unpacking(source).members(tar, watch)
        while plain.content.read(BUFFER):
            pass
    if diff_id and plain.digest != diff_id:
        raise HashMismatch(
            f"{source}: hash mismatch: its uncompressed digest is {plain.digest}, the locked one is {diff_id}",
            hint="find out who changed the archive before you lock again",
        )
    return plain.digest


def unpack_package(archive: IO[bytes], *, media_type: str, limit: int, source: str) -> None:
    """Unpacks a package's files over what is in `/`, at most `limit` bytes of archive.

    Must run as `unpack` must, and raises what it raises; the bytes were verified before.
    """
    with _explained(source), Uncompressed(archive, media_type, source, limit=limit) as plain:
        with open_stream(plain.content) as tar:
            _UnpackingPackage(source).members(tar)
        while plain.content.read(BUFFER):
            pass


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Errors of a broken archive become ones that name it; a full disk stays an OSError for the caller to explain."""
    try:
        yield
    except BROKEN_ARCHIVE as error:
        raise FetchError(f"{source} is a broken archive: {error}", hint="fetch it again") from error
    except OSError as error:
        if error.errno in _TOO_MUCH:
            raise FetchError(f"{source}: has a path that the file system does not accept: {error}") from error
        if error.errno in _OF_ONE_ANOTHER:
            hint = "do not trust this archive"
            raise FetchError(f"{source}: has paths that conflict: {error}", hint=hint) from error
        raise


class _Unpacking:
    """Members become paths in the order of the archive; a later one replaces an earlier one of its name."""

    _has_whiteouts = True

    def __init__(self, source: str) -> None:
        self._source = source
        self._folders: dict[bytes, float] = {}
        self._hidden: set[bytes] = set()

    def members(self, tar: tarfile.TarFile, watch: Callable[[tarfile.TarInfo], None] | None = None) -> None:
        makers: dict[bytes, Callable[[tarfile.TarInfo, bytes], None]] = {
            tarfile.DIRTYPE: self._folder,
            tarfile.SYMTYPE: self._symlink,
            tarfile.LNKTYPE: self._link,
            tarfile.FIFOTYPE: self._fifo,
        }
        for member in members_of(tar):
            if watch is not None:
                watch(member)
            path = self._inside(member.name)
            folder, _, name = path.rpartition(b"/")
            if self._has_whiteouts and name.startswith(_WHITEOUT):
                self._whiteout(folder, name)
            elif member.isreg():
                self._file(tar, member, path)
            elif member.type in makers:
                makers[member.type](member, path)
            # Devices are left out: the engine gives an environment its own /dev.
        for path, mtime in reversed(self._folders.items()):
            if _is_folder(path):
                os.utime(path, (mtime, mtime))

    def _inside(self, name: str) -> bytes:
        """The absolute path of a name below the root, in one spelling."""
        if "\0" in name:
            raise self._refusal(f"the name {name!r} holds a NUL byte")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refusal(f"the name {name!r} leads out of the layer")
        return ("/" + "/".join(parts)).encode("utf-8", "surrogateescape")

    def _refusal(self, reason: str) -> FetchError:
        return FetchError(f"{self._source}: refused: {reason}", hint="do not trust this archive")

    def _make_folders(self, folder: bytes) -> None:
        """Makes a folder and what is missing above it, through symlinks: they cannot leave the root."""
        if folder and not os.path.isdir(folder):
            self._make_folders(folder.rpartition(b"/")[0])
            if os.path.lexists(folder):
                os.unlink(folder)
            os.mkdir(folder)
            os.chmod(folder, 0o755)
            if folder in self._hidden:
                os.setxattr(folder, _OPAQUE_XATTR, b"y")

    def _make_way(self, path: bytes) -> None:
        """Makes the folders above `path` and removes what stands there."""
        if path == b"/":
            raise self._refusal("its root is not a folder")
        self._make_folders(path.rpartition(b"/")[0])
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            remove_tree(path)
        else:
            os.unlink(path)

    def _folder(self, member: tarfile.TarInfo, path: bytes) -> None:
        if not _is_folder(path):
            self._make_way(path)
            os.mkdir(path)
        if path in self._hidden:
            os.setxattr(path, _OPAQUE_XATTR, b"y")
        self._set_metadata(member, path)
        self._folders.pop(path, None)
        self._folders[path] = member.mtime

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: bytes) -> None:
        self._require_space(member, path)
        self._make_way(path)
        content = tar.extractfile(member)
        assert content is not None
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0) as file:
            remaining = member.size
            while remaining:
                chunk = content.read(min(remaining, BUFFER))
                if not chunk:
                    raise tarfile.ReadError("unexpected end of data")
                if member.sparse is not None and chunk == _ZEROS[: len(chunk)]:
                    file.seek(len(chunk), os.SEEK_CUR)
                else:
                    left = memoryview(chunk)
                    while left:  # a disk that is nearly full takes a part of it
                        left = left[file.write(left) :]
                remaining -= len(chunk)
            if member.sparse is not None:
                file.truncate(member.size)
        self._set_metadata(member, path)
        os.utime(path, (member.mtime, member.mtime))

    def _require_space(self, member: tarfile.TarInfo, path: bytes) -> None:
        """Raises FetchError for a file that the disk cannot hold, before any of it is written."""
        if 0 <= member.size <= _SMALL:
            return
        disk = os.statvfs("/")
        if not 0 <= member.size <= disk.f_bavail * disk.f_frsize:
            raise FetchError(
                f"{self._source}: {text_of(path)} claims {member.size} bytes, more than the disk has left",
                hint="free some space, or set KLOCK_CACHE_DIR to a folder on another disk",
            )

    def _symlink(self, member: tarfile.TarInfo, path: bytes) -> None:
        self._make_way(path)
        os.symlink(member.linkname.encode("utf-8", "surrogateescape"), path)
        self._set_metadata(member, path)
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)

    def _link(self, member: tarfile.TarInfo, path: bytes) -> None:
        target = self._inside(member.linkname)
        if target == path:
            return
        self._require_file(target, path)
        self._make_way(path)
        self._require_file(target, path)  # it may have been in the way
        os.link(target, path, follow_symlinks=False)

    def _require_file(self, target: bytes, path: bytes) -> None:
        if not os.path.lexists(target) or _is_folder(target):
            raise self._refusal(
                f"{text_of(path)} is a hard link to {text_of(target)}, which is not a file of the layer"
            )

    def _fifo(self, member: tarfile.TarInfo, path: bytes) -> None:
        self._make_way(path)
        os.mkfifo(path)
        self._set_metadata(member, path)
        os.utime(path, (member.mtime, member.mtime))

    def _whiteout(self, folder: bytes, name: bytes) -> None:
        hidden = folder + b"/" + name.removeprefix(_WHITEOUT)
        if name == _OPAQUE:
            self._make_folders(folder)
            os.setxattr(folder or b"/", _OPAQUE_XATTR, b"y")
        elif name.startswith(_AUFS):
            return
        elif hidden.endswith((b"/", b"/.", b"/..")):
            raise self._refusal(f"the whiteout {text_of(folder)}/{text_of(name)} names no file")
        elif _is_folder(hidden):
            # The layer removes a folder and makes it again: it must not show what is below.
            os.setxattr(hidden, _OPAQUE_XATTR, b"y")
        elif not os.path.lexists(hidden):
            self._make_folders(folder)
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0))
            self._hidden.add(hidden)

    def _set_metadata(self, member: tarfile.TarInfo, path: bytes) -> None:
        try:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
        except (OSError, OverflowError) as error:
            raise FetchError(
                f"{self._source}: {text_of(path)} belongs to {member.uid}:{member.gid}, which klock may not use here",
                hint="give your user a larger range of ids in /etc/subuid and /etc/subgid",
            ) from error
        if not member.issym():
            os.chmod(path, stat.S_IMODE(member.mode))  # after chown, which clears setuid
        for header, text in member.pax_headers.items():
            name = header.removeprefix(_XATTR)
            if name != header and is_kept_xattr(name):
                os.setxattr(path, name, xattr_value(name, text), follow_symlinks=False)


class _UnpackingPackage(_Unpacking):
    """As dpkg: no name means anything but itself, and a folder may be a symlink to one, as /bin is to usr/bin."""

    _has_whiteouts = False

    def _folder(self, member: tarfile.TarInfo, path: bytes) -> None:
        if not os.path.isdir(path) or _is_folder(path):
            super()._folder(member, path)


def is_kept_xattr(name: str) -> bool:
    """Whether an extended attribute of an archive is taken. overlayfs' own notes could hide files; security labels
    belong to the host that wrote them."""
    return name in MEANINGFUL_XATTRS or (name.startswith("user.") and not name.startswith(OVERLAY_XATTR))


def xattr_value(name: str, text: str) -> bytes:
    """The value of an attribute that an archive has as `text`."""
    value = text.encode("utf-8", "surrogateescape")
    if name == "security.capability" and len(value) == 24 and value[3] == 3:
        # Version 3 (linux/capability.h) adds the root id of the namespace that wrote it; here it is root's own.
        return value[:3] + b"\2" + value[4:20]
    return value


def _is_folder(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
