"""Writes a project's files into a mounted tree, as klock's own hand and not by a tool of the image.

The process changes root into the tree first: symlinks of the environment are followed as its own programs would follow
them, and none leads out. The host's files are read through a folder that was opened before.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from typing import Final

from klock.errors import HashMismatch, ImageError
from klock.layers.normalisation import is_left_out
from klock.workshop.protocol import PlacedFile

__all__ = ["cannot_make_folder", "cannot_replace_folder", "joined", "never_kept", "place"]

_CHUNK: Final = 1 << 20


def place(root: str, files: Sequence[PlacedFile], destination: str) -> None:
    """Places files below the absolute path `destination` of the tree at `root`, which is then the process's root.

    Raises HashMismatch when a source changed since its digest was taken, ImageError where something is in the way.
    """
    host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if root != "/":
        os.chroot(root)
    os.chdir("/")
    for file in sorted(files, key=lambda file: file.path):
        _place(host, file, joined(destination, file.path))


def joined(destination: str, path: str) -> str:
    """The absolute path of a placed file. Raises ImageError for one that is not below the destination."""
    parts = [part for part in path.split("/") if part]
    if not destination.startswith("/") or path.startswith("/") or ".." in parts or "." in parts:
        raise ImageError(f"cannot place {path!r} below {destination!r}", hint="paths must stay below the destination")
    return "/".join([destination.rstrip("/"), *parts]) or "/"


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


def _place(host: int, file: PlacedFile, path: str) -> None:
    real = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    if is_left_out(real.lstrip("/")):
        raise never_kept(path)
    _make_folders(os.path.dirname(path))
    if file.source is not None:
        _make_way(path)
        _copy(host, file, path)
    elif file.target is not None:
        _make_way(path)
        os.symlink(file.target, path)
        os.chown(path, 0, 0, follow_symlinks=False)
    elif not os.path.islink(path) or not os.path.isdir(path):
        # A symlink to a folder (/bin -> usr/bin) stays one, and its target keeps its mode.
        _make_folders(path)
        os.chown(path, 0, 0)
        os.chmod(path, stat.S_IMODE(file.mode))


def _make_folders(path: str) -> None:
    """Makes the folders that are missing, with mode 0755 whatever the umask."""
    if path in ("", "/") or os.path.isdir(path):
        return
    _make_folders(os.path.dirname(path))
    try:
        os.mkdir(path)
    except FileExistsError:
        raise cannot_make_folder(path) from None
    os.chmod(path, 0o755)


def _make_way(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise cannot_replace_folder(path) from None


def _copy(host: int, file: PlacedFile, path: str) -> None:
    assert file.source is not None
    hasher = hashlib.sha256()
    source = os.open(str(file.source).lstrip("/"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=host)
    with open(source, "rb", buffering=0) as readable, open(path, "xb", buffering=0) as writable:
        while chunk := readable.read(_CHUNK):
            hasher.update(chunk)
            writable.write(chunk)
        os.fchown(writable.fileno(), 0, 0)
        os.fchmod(writable.fileno(), stat.S_IMODE(file.mode))
    found = "sha256:" + hasher.hexdigest()
    if file.digest is not None and found != file.digest:
        raise HashMismatch(
            f"{file.source}: hash mismatch: locked {file.digest}, on disk {found}",
            hint="run `klock lock` to accept the changed file",
        )
