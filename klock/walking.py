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

_LONG: Final = 2000
"""Bytes of a path, half of what the kernel takes."""


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
    """Removes a folder with all it holds, or what else is at the path. Follows no symlink; nothing there is fine.

    `told` hears how many paths were removed. If the process is killed, the rest is still below the folder's path. With
    `ignore_errors` what cannot be removed stays.
    """
    passed_over = OSError if ignore_errors else FileNotFoundError
    root = os.fsencode(folder)
    waiting = [(root, False)]
    while waiting:
        here, is_emptied = waiting.pop()
        with contextlib.suppress(passed_over):
            if is_emptied:
                os.rmdir(here)
                continue
            if not os.path.isdir(here) or os.path.islink(here):
                os.unlink(here)
                continue
            waiting.append((here, True))
            removed = 0
            with os.scandir(here) as found:
                entries = list(found)
            for entry in entries:
                removed += 1
                path = entry.path
                with contextlib.suppress(passed_over):
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(path)
                        continue
                    if len(path) > _LONG:
                        path = os.path.join(root, os.urandom(8).hex().encode())
                        os.rename(entry.path, path)
                    waiting.append((path, False))
            if told is not None:
                told(removed)
