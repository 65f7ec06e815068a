"""The folder that a command works in, in every place: which folders are made for it, and what is said without it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from klock.errors import EngineError

if TYPE_CHECKING:
    from klock.layers.manifest import Manifest

__all__ = ["folders_to", "missing_working_dir", "without_made_folders"]

_MOST_SYMLINKS = 40


def missing_working_dir(path: str) -> EngineError:
    return EngineError(
        f"the environment has no working directory {path}",
        hint=f"make it in a step of the image, or mount a folder there: --mount ./FOLDER:{path}",
    )


def without_made_folders(observed: Manifest, locked: Manifest, paths: Iterable[str]) -> Manifest:
    """`observed` without those of `paths` that are folders where `locked` has nothing: they are made for commands."""
    from klock.layers.manifest import Kind, Manifest

    found = {path: observed[path] for path in paths if path in observed and path not in locked}
    made = {path for path, entry in found.items() if entry.kind is Kind.FOLDER}
    return Manifest(entry for path, entry in observed.items() if path not in made) if made else observed


def folders_to(path: str, tree: Manifest) -> Iterator[str]:
    """The paths in `tree` that one goes through to `path`, itself the last; symlinks are followed, never out of it."""
    from klock.layers.manifest import Kind

    here: list[str] = []
    waiting = posixpath.normpath(path).split("/")[::-1]
    followed = 0
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del here[-1:]
            continue
        found = tree.get("/".join([*here, part]))
        if found is None or found.kind is not Kind.SYMLINK or followed == _MOST_SYMLINKS:
            here.append(part)
            yield "/".join(here)
            continue
        followed += 1
        target = found.target or ""
        if target.startswith("/"):
            here = []
        waiting += target.split("/")[::-1]
