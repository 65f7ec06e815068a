"""Where files go: as rsync would, with the rules the builder's reference adds.

file    to /app/config.yaml -> /app/config.yaml     to /app/ -> /app/<name>     no dest -> <working dir>/<name>
folder  to /app -> /app/<name>/...                  contents -> /app/...        no dest -> <working dir>/<name>/...
"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from klock.errors import ImageError

__all__ = ["copies_contents", "file_destination", "folder_destination", "source_path"]


def source_path(source: str, *, root: Path) -> Path:
    """The absolute host path of a source as written: `~/` is the user's home, relative paths start at `root`.

    Without `..`: after a symlink that leads to the parent of the folder behind it, which no path's text tells.
    """
    path = root / Path(source).expanduser()
    parts = path.parts
    if ".." not in parts:
        return path
    end = len(parts) - parts[::-1].index("..")
    return Path(os.path.realpath(Path(*parts[:end])), *parts[end:])


def copies_contents(source: str, *, contents: bool) -> bool:
    """Whether a folder's own name is dropped. A source that ends in `.` or `..` has no name that every checkout
    shares, and rsync copies its contents too."""
    return contents or _basename(source) in ("", "~", ".", "..")


def folder_destination(source: str, dest: str | None, *, contents: bool, working_dir: str, where: str) -> str:
    """The absolute path in the environment that the entries of the folder `source` are below.

    `where` names the step in messages. Raises ImageError when `..` leads out of the root.
    """
    below = "" if copies_contents(source, contents=contents) else _basename(source)
    return _absolute(dest or "", below, working_dir, where)


def file_destination(source: str, dest: str | None, *, working_dir: str, where: str) -> str:
    """The absolute path in the environment of a file, which has the name of `source` where `dest` is a folder.

    `where` names the step in messages. Raises ImageError when `..` leads out of the root.
    """
    dest = dest or ""
    is_folder = dest == "" or _basename(dest) in ("", "~", ".", "..") or dest.endswith("/")
    return _absolute(dest, _basename(source) if is_folder else "", working_dir, where)


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
