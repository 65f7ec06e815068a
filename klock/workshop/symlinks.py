"""Where a path leads in a tree that is not this process's root: path_resolution(7), never out of the tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["MOST_SYMLINKS", "follow"]

MOST_SYMLINKS: Final = 40
"""How many symlinks the kernel follows in one path."""


def follow(path: str, read_link: Callable[[str, int], str | None]) -> str:
    """Where `path` leads, relative to the root; missing parts are kept.

    `read_link` is given a path relative to the root, and how many symlinks were followed so far. It returns the text of
    the symlink there, or None for what is none, or is not to be followed.
    """
    waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    parts: list[str] = []
    followed = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del parts[-1:]
            continue
        target = read_link("/".join([*parts, part]), followed)
        if target is None:
            parts.append(part)
            continue
        followed += 1
        if target.startswith("/"):
            parts = []
        waiting += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    return "/".join(parts)
