"""Walks through folders of any depth, and removes them.

A short loop in a command can nest a thousand folders. Python's own functions fail there: they call themselves for each
folder, or their paths become longer than the kernel takes (PATH_MAX).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import AnyStr, Final

__all__ = ["remove_tree", "walk"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST: Final = 64
"""Folders that are open at once. What lies deeper is moved up."""


def walk(folder: AnyStr) -> Iterator[tuple[AnyStr, list[AnyStr], list[AnyStr]]]:
    """For each folder its path, the names of its folders, and the names of all else in it. A folder comes before those
    in it.

    Skips a folder that cannot be listed.
    """
    waiting = [folder]
    while waiting:
        above = waiting.pop()
        folders: list[AnyStr] = []
        others: list[AnyStr] = []
        with contextlib.suppress(OSError):
            with os.scandir(above) as found:
                for entry in found:
                    (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
            yield above, folders, others
            waiting += [os.path.join(above, name) for name in folders]


def remove_tree(
    folder: str | os.PathLike[str] | bytes, *, ignore_errors: bool = False, told: Callable[[int], None] | None = None
) -> None:
    """Removes a folder with all it holds, or what else is at the path. Nothing there is fine. Follows no symlink, nor
    one that somebody puts in the place of a folder meanwhile.

    `told` hears how many paths were removed. If the process is killed, the rest is still below the folder's path. With
    `ignore_errors` what cannot be removed stays.
    """
    passed_over = OSError if ignore_errors else FileNotFoundError
    root = os.fsdecode(folder)
    with contextlib.suppress(passed_over):
        if os.path.isdir(root) and not os.path.islink(root):
            _empty(root, passed_over, told or (lambda _: None))
            os.rmdir(root)
        else:
            os.unlink(root)


def _empty(root: str, passed_over: type[OSError], told: Callable[[int], None]) -> None:
    # The folders from the root down to the current one: descriptor, name, and the folders in it that are left.
    entered: list[tuple[int, str, list[str]]] = []
    try:
        entered.append(_enter(root, None, passed_over, told))
        while entered:
            here, name, folders = entered[-1]
            if not folders:
                entered.pop()
                os.close(here)
                if entered:
                    with contextlib.suppress(passed_over):
                        os.rmdir(name, dir_fd=entered[-1][0])
                continue
            below = folders.pop()
            with contextlib.suppress(passed_over):
                if len(entered) < _DEEPEST:
                    entered.append(_enter(below, here, passed_over, told))
                else:
                    top, _, others = entered[0]
                    moved = os.urandom(8).hex()
                    os.rename(below, moved, src_dir_fd=here, dst_dir_fd=top)
                    others.append(moved)
    finally:
        for descriptor, _, _ in entered:
            os.close(descriptor)


def _enter(
    name: str, within: int | None, passed_over: type[OSError], told: Callable[[int], None]
) -> tuple[int, str, list[str]]:
    """Opens a folder, and removes all but folders from it."""
    here = os.open(name, _FOLDER, dir_fd=within)
    try:
        with os.scandir(here) as found:
            entries = list(found)
        folders = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                with contextlib.suppress(passed_over):
                    os.unlink(entry.name, dir_fd=here)
    except BaseException:
        os.close(here)
        raise
    told(len(entries))
    return here, name, folders
