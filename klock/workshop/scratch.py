"""Folders for unfinished work, and their removal: files may belong to ids that only a namespace process may touch.

A process locks a file inside its folder. A folder without a lock belonged to a klock that was killed; the next klock
removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from klock.errors import EngineError
from klock.file_locks import locked
from klock.store import Store, name_of_process
from klock.temporary import make_private, remove_abandoned_folders
from klock.walking import remove_tree, walk
from klock.workshop.namespace import in_namespace

if TYPE_CHECKING:
    from klock.forks import Tally

__all__ = [
    "among_all_files",
    "bytes_of",
    "file_lock",
    "find_holder",
    "held",
    "holding_mounts",
    "is_held",
    "remove_abandoned",
    "remove_stale",
    "remove_trees",
    "scratch_folder",
]

T = TypeVar("T")

_PREFIX: Final = "scratch-"
_HOLD: Final = "in-use"
_DAY: Final = 86400
_HOLDER: Final = "mounted-by-"


@contextlib.contextmanager
def scratch_folder(store: Store) -> Iterator[Path]:
    """A fresh folder on the store's disk, for this user alone. What is left of it at the end is removed."""
    remove_abandoned(store)
    unnamed = store.temporary_path()
    folder = unnamed.with_name(_PREFIX + os.urandom(8).hex())
    try:
        make_private(unnamed)
        with held(unnamed):
            try:
                unnamed.rename(folder)
                yield folder
            finally:
                remove_trees([folder])
    finally:
        remove_trees([unnamed])


@contextlib.contextmanager
def file_lock(file: Path) -> Iterator[None]:
    """One process at a time runs the block; others wait."""
    with open(file, "ab") as opened, locked(opened, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Marks a folder as in use as long as the block runs or a child of this process does."""
    with open(folder / _HOLD, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_held(folder: Path) -> bool:
    try:
        with open(folder / _HOLD, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


@contextlib.contextmanager
def holding_mounts(folder: Path) -> Iterator[None]:
    """Notes, while the block runs, that this process has the writable layer in `folder` mounted."""
    note = folder / f"{_HOLDER}{name_of_process(os.getpid())}"
    note.write_text(str(os.stat("/proc/self/ns/mnt").st_ino), "ascii")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def find_holder(folder: Path) -> int | None:
    """A process that has mounted the writable layer in `folder`; this process does not hold the layer yet.

    klock knows that process by its mount namespace, whose number no other has: by now its process id may be another
    process's. Raises EngineError for a process of another container, whose mounts this one cannot join.
    """
    for note in folder.glob(_HOLDER + "*"):
        pid = note.name.rpartition(".")[2]
        is_of_here = note.name == _HOLDER + name_of_process(pid)
        if is_of_here and _has_mounts(pid, note):
            return int(pid)
        if not is_of_here and is_held(folder):
            raise EngineError(
                "another container with the same store runs a command in this environment",
                hint="wait for it, or give each container a store of its own: KLOCK_CACHE_DIR",
            )
        note.unlink(missing_ok=True)  # it was killed
    return None


def _has_mounts(pid: str, note: Path) -> bool:
    """Whether a process is the one that left this note."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino == int(note.read_text("ascii"))
    except (OSError, ValueError):
        return False


def remove_abandoned(store: Store) -> None:
    """Removes the scratch folders of processes that are gone, and their temporary folders."""
    remove_abandoned_folders()
    remove_abandoned_folders(store.root / "tmp")
    found = (store.root / "tmp").glob(_PREFIX + "*")
    remove_trees([folder for folder in found if not is_held(folder)])


def remove_stale(store: Store) -> None:
    """Removes unfinished work whose process is gone: folders without a lock, and what nobody touched for a day."""
    remove_abandoned(store)
    found = [path for path in (store.root / "tmp").glob("*") if not path.name.startswith(_PREFIX)]
    remove_trees([path for path in found if _is_older(path, time.time() - _DAY)])


def _is_older(path: Path, moment: float) -> bool:
    """Whether nobody touched it since; False for what its maker has renamed or removed meanwhile."""
    try:
        return path.lstat().st_mtime < moment
    except FileNotFoundError:
        return False


def among_all_files(task: Callable[[], T]) -> T:
    """Calls `task` where the store's files can be read and removed, whoever owns them. Root can so everywhere, also
    in a container where nobody may make a namespace."""
    return task() if os.geteuid() == 0 else in_namespace(task)


def remove_trees(folders: Sequence[Path], tally: Tally | None = None) -> None:
    """Removes folders, whoever owns their files. A folder that is gone already is not an error. `tally` counts paths.

    Who is ended before all of a folder is gone leaves the rest of it under its name.
    """
    present = [folder for folder in folders if os.path.lexists(folder)]
    if present:
        among_all_files(lambda: _remove(present, tally))


def _remove(folders: Sequence[Path], tally: Tally | None) -> None:
    if tally is not None:
        # What a symlink leads to is somebody else's.
        own = [os.fsencode(folder) for folder in folders if not os.path.islink(folder)]
        tally.expect(sum(len(inside) + len(others) for folder in own for _, inside, others in walk(folder)))
    for folder in folders:
        remove_tree(folder, told=None if tally is None else tally.add)


def bytes_of(folder: Path) -> int:
    """The bytes a folder takes on its disk; must run where its files may be read."""
    total = 0
    seen: set[int] = set()
    for above, folders, others in walk(os.fsencode(folder)):
        for name in (*folders, *others):
            try:
                status = os.lstat(above + b"/" + name)
            except OSError:  # longer than a path may be
                continue
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total
