"""Folders for this user alone, and temporary folders. If klock is killed, the next klock removes its temporary folders.

A process, or a child of it, holds a temporary folder by a lock on a file in it. Whoever makes such a folder, or begins
other work (`klock.workshop.scratch`), first removes those of this user that nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["MEMORY", "make_private", "remove_abandoned_folders", "temporary_folder"]

MEMORY: Final = Path("/dev/shm")
"""For what must not stay on a disk."""

_PREFIX: Final = "klock-"
_HOLD: Final = ".klock-holds-this"
_WORK: Final = "w"
_LISTS: Final = ("system.posix_acl_access", "system.posix_acl_default")


def make_private(folder: Path) -> None:
    """Makes a folder for this user alone. What is made in it inherits nothing.

    A shared folder above may hand on its group (setgid) and its access control lists (acl(5)). They would get into
    layers, and an environment would differ from what is locked.
    """
    folder.mkdir(mode=0o700)
    _inherit_nothing(folder)


def _inherit_nothing(folder: Path) -> None:
    for name in _LISTS:
        with contextlib.suppress(OSError):  # most folders have none, and some file systems know none
            os.removexattr(folder, name)
    if folder.stat().st_gid != os.getegid():
        os.chown(folder, -1, os.getegid())
    folder.chmod(0o700)


@contextlib.contextmanager
def temporary_folder(name: str, *, within: Path | None = None) -> Iterator[Path]:
    """An empty folder for this user alone, `klock-<name>-...` in `$TMPDIR` or `within` another. It is removed at the
    end, whatever is in it."""
    import tempfile

    remove_abandoned_folders(within)
    outer = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}-", dir=within))
    try:
        _inherit_nothing(outer)
        with open(outer / _HOLD, "xb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            folder = outer / _WORK
            folder.mkdir(mode=0o700)
            yield folder
    finally:
        _remove(outer)


def remove_abandoned_folders(within: Path | None = None) -> None:
    """Removes the temporary folders that ended processes of this user have left: `within` a folder, or else in
    `$TMPDIR` and in memory. What may be something else stays."""
    import tempfile

    for place in (within,) if within else (tempfile.gettempdir(), MEMORY):
        with contextlib.suppress(OSError), os.scandir(place) as found:
            for entry in found:
                if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False) and _is_abandoned(entry):
                    _remove(Path(entry.path))


def _remove(outer: Path) -> None:
    """Removes the work first: if the process is killed meanwhile, what it leaves still looks abandoned."""
    from klock.walking import remove_tree

    remove_tree(outer / _WORK, ignore_errors=True)
    remove_tree(outer, ignore_errors=True)


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    try:
        if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
            return False
        # Made, locked and filled in this order: one without the file, or without its work, is being made or removed.
        hold = os.open(os.path.join(entry.path, _HOLD), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)  # noqa: PTH118
    except OSError:
        return False
    try:
        has_work = os.path.isdir(os.path.join(entry.path, _WORK))  # noqa: PTH112, PTH118
        fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(hold)
    return has_work
