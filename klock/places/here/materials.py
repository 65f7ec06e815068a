"""Puts single paths of a manifest into the container's root, and keeps files so that they can be put there again."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from klock.errors import EngineError
from klock.files.placed import UNFINISHED
from klock.layers.manifest import Entry, Kind
from klock.layers.normalisation import MTIME
from klock.layers.scan import meaningful_xattrs
from klock.places.here.mounts import mount_points
from klock.places.here.tree import Tree, on_disk
from klock.walking import remove_tree

__all__ = ["keep_files", "kept_file", "put", "remove"]

_MTIME_NS = MTIME * 10**9


def keep_files(paths: Iterable[str], tree: Tree, folder: Path) -> set[str]:
    """Copies the files among `paths` that `tree` has to `folder`, under their digests; returns the paths kept."""
    kept = set()
    for path in paths:
        entry = tree.entry(path)
        if entry is None or entry.kind is not Kind.FILE or entry.digest is None:
            continue
        kept.add(path)
        copy = kept_file(entry, folder)
        if not copy.exists():
            temporary = copy.with_suffix(".part")
            shutil.copyfile(os.fsdecode(on_disk(path)), temporary)
            temporary.rename(copy)
    return kept


def kept_file(entry: Entry, folder: Path) -> Path:
    assert entry.digest is not None
    return folder / entry.digest.removeprefix("sha256:")


def put(entry: Entry, *, source: Path | None = None, modified: int = _MTIME_NS) -> None:
    """Makes the path be what `entry` says, whatever is there. A file's bytes are those of `source`.

    A folder that is there keeps what it holds. Never half: a file appears by one rename.
    """
    where = on_disk(entry.path)
    if entry.kind is Kind.FOLDER:
        if not _is_folder(where):
            remove(entry.path)
            os.mkdir(where)
        _dress(where, entry, modified)
        return
    if _is_folder(where):
        remove(entry.path)
    temporary = os.path.dirname(where) + os.fsencode(f"/{UNFINISHED}{os.urandom(6).hex()}")
    try:
        if entry.kind is Kind.SYMLINK:
            assert entry.target is not None
            os.symlink(entry.target.encode("utf-8", "surrogateescape"), temporary)
        elif entry.kind is Kind.HARDLINK:
            assert entry.target is not None
            os.link(on_disk(entry.target), temporary)
        elif entry.kind is Kind.FIFO:
            os.mkfifo(temporary)
        else:
            assert source is not None
            shutil.copyfile(source, os.fsdecode(temporary))
        if entry.kind is not Kind.HARDLINK:
            _dress(temporary, entry, modified)
        os.rename(temporary, where)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


def remove(path: str) -> None:
    """Removes what is at `path`, a folder with all it holds. Nothing there is fine.

    Raises EngineError for a folder in which something is mounted: that would be emptied.
    """
    where = on_disk(path)
    if _is_folder(where):
        if any(point.startswith(where + b"/") for point in mount_points()):
            raise EngineError(f"/{path} cannot be removed: something is mounted in it", hint="mount that elsewhere")
        remove_tree(where)
    elif os.path.lexists(where):
        os.unlink(where)


def _is_folder(where: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(where).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _dress(where: bytes, entry: Entry, modified: int) -> None:
    """Owner, mode, extended attributes and time; the owner first, as a change of it takes capabilities away."""
    os.chown(where, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind is not Kind.SYMLINK:
        os.chmod(where, entry.mode)
    for name, _ in set(meaningful_xattrs(where)) - set(entry.xattrs):
        if name not in dict(entry.xattrs):
            os.removexattr(where, name, follow_symlinks=False)
    for name, value in entry.xattrs:
        os.setxattr(where, name, bytes.fromhex(value), follow_symlinks=False)
    os.utime(where, ns=(modified, modified), follow_symlinks=False)
