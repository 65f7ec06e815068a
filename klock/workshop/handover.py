"""Files that klock and a program of the workshop hand each other, in a folder that the program may write to.

Such a program is somebody else's, and may have put anything there when klock looks again: a symlink in the place of a
file leads a program of the host to the host's files, and a named pipe lets it wait for ever. So klock writes only what
it makes anew, reads only ordinary files, and follows no symlink on the way. No program of the workshop runs meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from klock.walking import remove_tree

__all__ = ["clear", "empty_folder", "hand_in", "open_left", "take_out"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def hand_in(folder: Path, name: str, content: bytes) -> None:
    """Writes `folder/name` anew, whatever is there. `name` is one component."""
    with _opened(folder) as within:
        _remove(within, name)
        with open(os.open(name, _NEW, 0o644, dir_fd=within), "wb") as file:
            file.write(content)


def empty_folder(folder: Path, name: str) -> Path:
    """Makes `folder/name` an empty folder, whatever is there. `name` is one component."""
    with _opened(folder) as within:
        _remove(within, name)
        os.mkdir(name, 0o755, dir_fd=within)
    return folder / name


def clear(folder: Path, name: str) -> None:
    """Removes `folder/name`, whatever is there. `name` is one component."""
    with _opened(folder) as within:
        _remove(within, name)


def take_out(folder: Path, path: str, *, most: int) -> bytes | None:
    """The content of an ordinary file `folder/path`; None where there is none, or one that is larger than `most` bytes.

    `path` may have come from the program.
    """
    file = open_left(folder, path)
    if file is None:
        return None
    with file:
        size = os.fstat(file.fileno()).st_size
        return file.read(size) if size <= most else None


def open_left(folder: Path, path: str) -> BinaryIO | None:
    """An ordinary file `folder/path`, to read; None where there is none. `path` may have come from the program."""
    *folders, name = path.split("/")
    if {"", ".", ".."} & {*folders, name}:
        return None
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError, ValueError):
        within = stack.enter_context(_opened(folder))
        for each in folders:
            within = stack.enter_context(_opened(each, within))
        file = open(os.open(name, _FILE, dir_fd=within), "rb")  # noqa: SIM115
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    return None


@contextlib.contextmanager
def _opened(folder: Path | str, within: int | None = None) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(within: int, name: str) -> None:
    # By the open folder: its path may lead elsewhere by now.
    remove_tree(f"/proc/self/fd/{within}/{name}")
