"""The folder that a command works in, in every place: which folders are made for it, and what is said without it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import TYPE_CHECKING

from klock.errors import EngineError
from klock.workshop.symlinks import MOST_SYMLINKS, follow

if TYPE_CHECKING:
    from klock.layers.manifest import Manifest

__all__ = ["folders_to", "missing_working_dir", "without_made_folders"]


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


def folders_to(path: str, tree: Manifest) -> list[str]:
    """The paths in `tree` that one goes through to `path`, itself the last; symlinks are followed, never out of it."""
    from klock.layers.manifest import Kind

    gone_through: list[str] = []

    def read_link(here: str, followed: int) -> str | None:
        found = tree.get(here)
        if found is not None and found.kind is Kind.SYMLINK and followed < MOST_SYMLINKS:
            return found.target or ""
        gone_through.append(here)
        return None

    follow(posixpath.normpath(path), read_link)
    return gone_through
