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
from array import array
from operator import attrgetter

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import TypeAlias

    _Folder: TypeAlias = tuple[bytes, int, bytes, bytes]
    """Its path below the root, how many names it has, the names with slashes between, and the facts of each."""

__all__ = ["FILE", "is_as_noted", "note_stats"]

FILE = "stats"
"""Its name, beside the tree's `root`."""

_VERSION = 2
_MUCH = 5000
"""Paths, from which on a second process costs less than it saves: to start one takes a millisecond."""
_inode = attrgetter("st_ino")
_changed = attrgetter("st_ctime_ns")

_TICK = 0.012
"""seconds: more than any kernel lets pass between two ticks of the clock that it gives files their times from."""


def note_stats(*folders: str) -> None:
    """Writes the stats of each folder's root. What this user may not look into, nobody else but root can change."""
    time.sleep(_TICK)
    for folder in folders:
        try:
            _note(folder)
        except OverflowError:  # a clock from before 1970: every byte is read instead
            continue


def _note(folder: str) -> None:
    root = os.path.join(folder, "root")
    noted: list[_Folder] = []
    waiting = [root]
    while waiting:
        here = waiting.pop()
        names, found = [], []
        try:
            with os.scandir(here) as entries:
                listed = [entry.name for entry in entries]
        except PermissionError:
            listed = []
        for name in listed:
            path = f"{here}/{name}"
            try:
                status = os.lstat(path)
            except PermissionError:
                continue
            names.append(name)
            found.append(status)
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)
        noted.append((os.fsencode(here[len(root) :]), len(names), os.fsencode("/".join(names)), _facts(found)))
    status = os.lstat(root)
    content = (_VERSION, status.st_dev, status.st_ino, status.st_ctime_ns, noted)
    temporary = os.path.join(folder, f"{FILE}.{os.urandom(8).hex()}")
    with open(temporary, "wb") as file:
        file.write(marshal.dumps(content))
    os.replace(temporary, os.path.join(folder, FILE))


def is_as_noted(folder: str, *, may_move: bool = False) -> bool:
    """Whether every path of `folder`/root is as it was noted. False without a note.

    If there are many paths and a second processor, a child process looks at half of them. With `may_move` the process
    changes its current folder meanwhile, which is a twentieth faster. This is only for klock's own processes: other
    code, such as a signal handler, might import a module from the current folder.
    """
    global is_looking  # noqa: PLW0603
    before = _current_folder() if may_move else -1
    may_move = before >= 0
    is_looking = True
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            version, device, inode, ctime, folders = marshal.loads(file.read())
        root = os.path.join(folder, "root")
        status = os.lstat(root)
        if (version, device, inode, ctime) != (_VERSION, status.st_dev, status.st_ino, status.st_ctime_ns):
            return False
        return _are_as_noted(os.fsencode(root), folders, may_move=may_move)
    except (OSError, ValueError, TypeError, EOFError, OverflowError):
        return False
    finally:
        is_looking = False
        if before >= 0:
            os.fchdir(before)
            os.close(before)


def _current_folder() -> int:
    """The folder to come back to; -1 where nobody could: it may be another user's, as after `sudo -u`."""
    try:
        return os.open(".", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1


is_looking = False
"""Whether a process that is started now only looks at stats."""


def _are_as_noted(root: bytes, folders: "list[_Folder]", *, may_move: bool) -> bool:
    """Looks at the last names of paths: whole paths take half as long again."""
    if sum(number for _, number, _, _ in folders) <= _MUCH:
        return all(_holds(root, folder, moves=may_move) for folder in folders)
    parts = [folders[::2], folders[1::2]] if len(os.sched_getaffinity(0)) > 1 else [folders]
    mine = parts.pop(0)
    children = [_look_beside(root, part) for part in parts]
    is_so = True
    try:
        is_so = all(_holds(root, folder, moves=may_move) for folder in mine)
    finally:
        ended = [os.waitpid(child, 0)[1] for child in children]
    return is_so and not any(ended)


def _look_beside(root: bytes, folders: "list[_Folder]") -> int:
    """The process id of a child that ends with 0 if they are as noted."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if all(_holds(root, folder, moves=True) for folder in folders) else 1
        finally:
            os._exit(status)
    return child


def _holds(root: bytes, folder: "_Folder", *, moves: bool) -> bool:
    below, number, joined, facts = folder
    if not number:
        return True
    names = joined.split(b"/")
    if moves:
        os.chdir(root + below)
        return _facts(list(map(os.lstat, names))) == facts
    here = os.open(root + below, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _facts([os.lstat(name, dir_fd=here) for name in names]) == facts
    finally:
        os.close(here)


def _facts(found: "list[os.stat_result]") -> bytes:
    """What is compared: all in one go, as to look at each by itself would take as long as to ask for it."""
    return array("Q", map(_inode, found)).tobytes() + array("Q", map(_changed, found)).tobytes()
