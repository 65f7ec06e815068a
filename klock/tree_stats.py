"""Whether an unpacked tree of the store is as it was made, told by the stat of every path in it.

A file beside the tree has them. It is written when the tree is whole and nobody else has seen it: after the clock of
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
_TICK = 0.012
"""seconds: more than any kernel lets pass between two ticks of the clock that it gives files their times from."""


def note_stats(folder: str) -> None:
    """Writes the stats of `folder`/root. What this user may not look into, nobody else but root can change."""
    time.sleep(_TICK)
    root = os.path.join(folder, "root")
    folders: list[Any] = []
    waiting = [root]
    while waiting:
        here = waiting.pop()
        entries = []
        try:
            with os.scandir(here) as found:
                names = [entry.name for entry in found]
        except PermissionError:
            names = []
        for name in names:
            path = f"{here}/{name}"
            try:
                status = os.lstat(path)
            except PermissionError:
                continue
            entries.append((name, *_fields(status)))
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)
        folders.append((here[len(root) :], entries))
    status = os.lstat(root)
    noted = (_VERSION, status.st_dev, _fields(status), folders)
    temporary = os.path.join(folder, f"{FILE}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(marshal.dumps(noted))
    os.replace(temporary, os.path.join(folder, FILE))


def is_as_noted(folder: str) -> bool:
    """Whether every path of `folder`/root has the stat that was noted. False without a note."""
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            version, device, of_root, folders = marshal.loads(file.read())
        root = os.path.join(folder, "root")
        status = os.lstat(root)
        if (version, device, of_root) != (_VERSION, status.st_dev, _fields(status)):
            return False
        lstat = os.lstat
        for below, entries in folders:
            here = f"{root}{below}/"
            for name, inode, mode, size, mtime, ctime in entries:
                found = lstat(here + name)
                if (
                    found.st_ctime_ns != ctime
                    or found.st_ino != inode
                    or found.st_mode != mode
                    or found.st_size != size
                    or found.st_mtime_ns != mtime
                ):
                    return False
    except (OSError, ValueError, TypeError, EOFError):
        return False
    return True


def _fields(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
