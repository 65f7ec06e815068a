"""Writes a project's files into a mounted tree, as klock's own hand and not by a tool of the image.

The process changes root into the tree first: symlinks of the environment are followed as its own programs would follow
them, and none leads out. The host's files are read through a folder that was opened before.
"""

from __future__ import annotations

import bz2  # noqa: F401 (tarfile imports it when the process's root is another one)
import hashlib
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from klock.errors import HashMismatch, ImageError
from klock.files.placed import UNFINISHED, PlacedFile
from klock.layers.archive_files import BROKEN, open_archive
from klock.layers.normalisation import is_left_out
from klock.walking import remove_tree
from klock.workshop.users import find_owner, reading

__all__ = [
    "MAY_BE_KEPT",
    "cannot_make_folder",
    "cannot_replace_folder",
    "in_order",
    "joined",
    "never_kept",
    "place",
    "several_for_one_path",
]

_CHUNK: Final = 1 << 20
MAY_BE_KEPT: Final = ("tmp/", "var/", "root/", "home/", "opt/", "usr/", "srv/")
"""Where a file that is to be kept may lie although layers leave files out there."""


def place(root: str, files: Sequence[PlacedFile], destination: str, *, owner: str = "", keep: bool = False) -> None:
    """Places files below the absolute path `destination` of the tree at `root`, which is then the process's root.

    They, and the folders made for them, are `owner`'s. `keep`: they may lie where layers leave files out.
    Raises HashMismatch when a source changed since its digest was taken, ImageError where something is in the way.
    """
    owner_ids = find_owner(reading(root), owner) if owner else None
    if any(file.archive for file in files):
        with suppress(ImportError):  # as bz2 above, and not every installation has it
            import zstandard  # noqa: F401
    host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if root != "/":
        os.chroot(root)
    os.chdir("/")
    for file in sorted(files, key=in_order):
        path = joined(destination, file.path)
        if not file.path and file.name:
            path = _named(file, destination)
        _place(host, file, path, owner_ids, keep=keep)


def _named(file: PlacedFile, destination: str) -> str:
    """Where a file goes: into the destination under its own name if a folder is there, else to the destination, or to
    where its symlink leads. Raises ImageError if several files would go to one path."""
    if os.path.isdir(destination):
        return joined(destination, file.name)
    if file.is_one_of_several:
        raise several_for_one_path(destination)
    return os.path.realpath(destination)


def in_order(file: PlacedFile) -> tuple[str, str]:
    """What makes the destination a folder comes before what may go into that folder."""
    return file.path, file.name


def joined(destination: str, path: str) -> str:
    """The absolute path of a placed file. Raises ImageError for one that is not below the destination."""
    parts = [part for part in path.split("/") if part]
    if not destination.startswith("/") or path.startswith("/") or ".." in parts or "." in parts:
        raise ImageError(f"cannot place {path!r} below {destination!r}", hint="paths must stay below the destination")
    return "/".join([destination.rstrip("/"), *parts]) or "/"


def several_for_one_path(path: str) -> ImageError:
    return ImageError(
        f"several files go to {path}, where the environment has no folder",
        hint=f"end the destination in a slash: {path}/",
    )


def never_kept(path: str) -> ImageError:
    return ImageError(
        f"cannot place a file at {path}: klock leaves this folder out of every environment",
        hint="choose a destination outside of /tmp, /run, /dev, /proc, /sys and caches",
    )


def cannot_make_folder(path: str) -> ImageError:
    return ImageError(
        f"cannot make the folder {path}: the environment has a file there", hint="choose another destination"
    )


def cannot_replace_folder(path: str) -> ImageError:
    return ImageError(
        f"cannot place a file at {path}: the environment has a folder there",
        hint=f"to put the file into that folder, end the destination in a slash: {path}/",
    )


def _place(host: int, file: PlacedFile, path: str, owner: tuple[int, int] | None, *, keep: bool) -> None:
    ids = owner or (0, 0)
    real = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    if is_left_out(real.lstrip("/")) and not (keep and real.lstrip("/").startswith(MAY_BE_KEPT)):
        raise never_kept(path)
    _make_folders(os.path.dirname(path), ids)
    if file.source is not None and file.archive:
        _make_folders(path, ids)
        _unpack(host, file, path, owner)
    elif file.source is not None:
        with _taking_the_place_of(path) as new:
            _copy(host, file, new, ids)
    elif file.target is not None:
        with _taking_the_place_of(path) as new:
            os.symlink(file.target, new)
            os.chown(new, *ids, follow_symlinks=False)
    elif not file.path:
        # The destination itself, which is made if it is not there, and else stays as it is.
        _make_folders(path, ids, mode=file.mode)
    elif not os.path.islink(path) or not os.path.isdir(path):
        # A symlink to a folder (/bin -> usr/bin) stays one, and its target keeps its mode.
        _make_folders(path, ids)
        os.chown(path, *ids)
        os.chmod(path, stat.S_IMODE(file.mode))


def _make_folders(path: str, ids: tuple[int, int], *, mode: int = 0o755) -> None:
    """Makes the folders that are missing, the last with `mode`, those above with 0755, whatever the umask."""
    if path in ("", "/") or os.path.isdir(path):
        return
    if os.path.islink(path):
        # What it leads to is not there yet.
        path = os.path.realpath(path)
    _make_folders(os.path.dirname(path), ids)
    try:
        os.mkdir(path)
    except FileExistsError:
        raise cannot_make_folder(path) from None
    os.chown(path, *ids)
    os.chmod(path, stat.S_IMODE(mode))


@contextmanager
def _taking_the_place_of(path: str) -> Iterator[str]:
    """A path at which to make what belongs at `path`. It moves there at once and whole, when it is ready: in a running
    system somebody may use what is there, and must not see bytes of a source that has changed."""
    if os.path.isdir(path) and not os.path.islink(path):
        raise cannot_replace_folder(path)
    new = f"{os.path.dirname(path)}/{UNFINISHED}{os.urandom(6).hex()}"
    try:
        yield new
        os.rename(new, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(new)


def _open(host: int, file: PlacedFile) -> int:
    return os.open(str(file.source).lstrip("/"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=host)


def _copy(host: int, file: PlacedFile, path: str, ids: tuple[int, int]) -> None:
    hasher = hashlib.sha256()
    with open(_open(host, file), "rb", buffering=0) as readable, open(path, "xb", buffering=0) as writable:
        while chunk := readable.read(_CHUNK):
            hasher.update(chunk)
            writable.write(chunk)
        os.fchown(writable.fileno(), *ids)
        os.fchmod(writable.fileno(), stat.S_IMODE(file.mode))
    _compare("sha256:" + hasher.hexdigest(), file)


def _compare(found: str, file: PlacedFile) -> None:
    if file.digest is not None and found != file.digest:
        raise HashMismatch(
            f"{file.source}: hash mismatch: locked {file.digest}, on disk {found}",
            hint="run `klock lock` to accept the changed file",
        )


def _unpack(host: int, file: PlacedFile, folder: str, owner: tuple[int, int] | None) -> None:
    """Unpacks a tar archive like root's `tar -x`: modes are the archive's, and so are owners if there is no `owner`.
    Leaves out devices."""
    with open(_open(host, file), "rb") as readable:
        _compare("sha256:" + hashlib.file_digest(readable, "sha256").hexdigest(), file)
        readable.seek(0)
        try:
            with open_archive(readable, source=str(file.source)) as archive:
                # As it is in the archive: Python 3.14 would change owners and modes.
                archive.extraction_filter = lambda member, path: member
                for member in archive:
                    member.name = posixpath.normpath("/" + member.name).lstrip("/") or "."
                    if owner is not None:
                        member.uid, member.gid = owner
                    if member.islnk():
                        member.linkname = posixpath.normpath("/" + member.linkname).lstrip("/")
                    # Like docker, ignores what it says about the folder that it is unpacked into.
                    if member.name != "." and (not member.isdev() or member.isfifo()):
                        _make_way_for(member, posixpath.join(folder, member.name))
                        archive.extract(member, folder, numeric_owner=True)
        except BROKEN as error:
            raise ImageError(f"cannot unpack {file.source}: {error}", hint="copy it as it is: COPY") from error


def _make_way_for(member: tarfile.TarInfo, path: str) -> None:
    """What an archive brings takes the place of what is there. Only a folder goes into a folder: a symlink to one does
    not stay."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(path)
    elif not member.isdir():
        remove_tree(path)
