"""Where a step's files go: as rsync would, with the rules the builder's reference adds.

file    to /app/config.yaml -> /app/config.yaml     to /app/ -> /app/<name>     no dest -> <working dir>/<name>
folder  to /app -> /app/<name>/...                  contents -> /app/...        no dest -> <working dir>/<name>/...
"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from klock.errors import ImageError
from klock.image.steps import CopyFiles, SyncPackage

__all__ = ["copies_contents", "destination", "package_destination", "source_path"]


def source_path(step: CopyFiles) -> Path:
    """The absolute host path of the source: `~/` is the user's home, relative paths start at the step's root.

    Without `..`: after a symlink that leads to the parent of the folder behind it, which no path's text tells.
    """
    path = Path(step.root) / Path(step.source).expanduser()
    parts = path.parts
    if ".." not in parts:
        return path
    end = len(parts) - parts[::-1].index("..")
    return Path(os.path.realpath(Path(*parts[:end])), *parts[end:])


def copies_contents(step: CopyFiles) -> bool:
    """Whether a folder's own name is dropped. A source that ends in `.` or `..` has no name that every checkout
    shares, and rsync copies its contents too."""
    return step.contents or _basename(step.source) in ("", "~", ".", "..")


def destination(step: CopyFiles, working_dir: str, *, is_folder: bool, where: str) -> str:
    """The absolute path in the environment that the step's file gets, or the folder that its entries are below.

    Raises ImageError when `..` leads out of the root.
    """
    name = _basename(step.source)
    if is_folder:
        below = "" if copies_contents(step) else name
        return _absolute(step.dest or "", below, working_dir, where)
    dest = step.dest or ""
    names_folder = dest == "" or _basename(dest) in ("", "~", ".", "..") or dest.endswith("/")
    return _absolute(dest, name if names_folder else "", working_dir, where)


def package_destination(step: SyncPackage, working_dir: str) -> str:
    """A synced package becomes a folder of the working directory."""
    return posixpath.normpath(posixpath.join("/", working_dir, step.folder))


def _basename(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


def _absolute(dest: str, below: str, working_dir: str, where: str) -> str:
    if dest == "~" or dest.startswith("~/"):
        dest = dest[1:].lstrip("/")
    joined = posixpath.join("/", working_dir, dest, below)
    if "\0" in joined:
        raise ImageError(f"{where}: the destination {dest!r} has a NUL character", hint="remove it")
    depth = 0
    for part in joined.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise ImageError(
                f"{where}: the destination {dest!r} leads out of the environment's root",
                hint=f"remove a '..': relative destinations start at {working_dir or '/'}",
            )
    return "/" + posixpath.normpath(joined).lstrip("/")
