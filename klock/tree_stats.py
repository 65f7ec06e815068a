"""Whether an unpacked tree of the store is as it was made, told by the stat of every path in it.

A file beside the tree has of each path its inode and its ctime, which moves with mode, size, owner, content and mtime,
and cannot be set back. It is written when the tree is whole and nobody else has seen it: after the clock of
the file system has moved on, so that every later change has another ctime. Imported where nothing is to be done, so it
imports next to nothing.
"""

import marshal
import os
import stat
import time

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

__all__ = ["FILE", "is_as_noted", "note_stats"]

FILE = "stats"
"""Its name, beside the tree's `root`."""

_VERSION = 1
_MUCH = 5000
"""Paths, from which on a second process costs less than it saves: to start one takes a millisecond."""
_TICK = 0.012
"""seconds: more than any kernel lets pass between two ticks of the clock that it gives files their times from."""


def note_stats(*folders: str) -> None:
    """Writes the stats of each folder's root. What this user may not look into, nobody else but root can change."""
    time.sleep(_TICK)
    for folder in folders:
        _note(folder)


def _note(folder: str) -> None:
    root = os.path.join(folder, "root")
    noted: list[Any] = []
    waiting = [root]
    while waiting:
        here = waiting.pop()
        names, facts = [], []
        try:
            with os.scandir(here) as found:
                listed = [entry.name for entry in found]
        except PermissionError:
            listed = []
        for name in listed:
            path = f"{here}/{name}"
            try:
                status = os.lstat(path)
            except PermissionError:
                continue
            names.append(name)
            facts += [status.st_ino, status.st_ctime_ns]
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)
        noted.append((here[len(root) :], names, facts))
    status = os.lstat(root)
    content = (_VERSION, status.st_dev, status.st_ino, status.st_ctime_ns, noted)
    temporary = os.path.join(folder, f"{FILE}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(marshal.dumps(content))
    os.replace(temporary, os.path.join(folder, FILE))


def is_as_noted(folder: str, *, may_move: bool = False) -> bool:
    """Whether every path of `folder`/root is as it was noted. False without a note.

    With `may_move` the process's current folder changes meanwhile, which saves a quarter of the time; and a child
    process looks at half of what is much, where there is a second processor. Only one thread may be alive then.
    """
    before = os.open(".", os.O_RDONLY | os.O_CLOEXEC) if may_move else -1
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            version, device, inode, ctime, folders = marshal.loads(file.read())
        root = os.path.join(folder, "root")
        status = os.lstat(root)
        if (version, device, inode, ctime) != (_VERSION, status.st_dev, status.st_ino, status.st_ctime_ns):
            return False
        if may_move and sum(len(names) for _, names, _ in folders) > _MUCH and len(os.sched_getaffinity(0)) > 1:
            return _are_as_noted_beside(root, folders)
        return _are_as_noted(root, folders, may_move=may_move)
    except (OSError, ValueError, TypeError, EOFError, StopIteration):
        return False
    finally:
        if before >= 0:
            os.fchdir(before)
            os.close(before)


def _are_as_noted(root: str, folders: "list[Any]", *, may_move: bool) -> bool:
    for below, names, facts in folders:
        here = root + below
        if may_move and names:
            os.chdir(here)
        else:
            names = [f"{here}/{name}" for name in names]
        known = iter(facts)
        for found in map(os.lstat, names):
            if found.st_ino != next(known) or found.st_ctime_ns != next(known):
                return False
    return True


def _are_as_noted_beside(root: str, folders: "list[Any]") -> bool:
    """The same, every second folder in a child process."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if _are_as_noted(root, folders[1::2], may_move=True) else 1
        finally:
            os._exit(status)
    try:
        mine = _are_as_noted(root, folders[::2], may_move=True)
    finally:
        _, ended = os.waitpid(child, 0)
    return mine and ended == 0
