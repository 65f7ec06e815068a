"""Local files: what is at a host path, and what a workshop needs to place it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from klock.files.digest_cache import DigestCache
from klock.files.scan import scan
from klock.lockfile.model import FileEntry
from klock.secrets.credential_files import LOOKED_INTO, CredentialFiles, credential_file
from klock.store import Store

if TYPE_CHECKING:
    from klock.files.placed import PlacedFile

__all__ = ["credentials_among", "import_paths", "placed_files", "read_entries"]


def read_entries(
    source: Path,
    *,
    root: Path,
    contents: bool = False,
    filter_options: str | None = None,
    where: str,
    store: Store | None = None,
    credentials: CredentialFiles | None = None,
) -> tuple[FileEntry, ...]:
    """What is at the absolute host path `source`, as `scan` has it.

    With a store, files that did not change since the last time are not read again. Raises ImageError.
    """
    cache = DigestCache.of_source(store, source) if store else DigestCache()
    entries = scan(
        source,
        root=root,
        contents=contents,
        filter_options=filter_options,
        where=where,
        digests=cache,
        credentials=credentials,
    )
    cache.save()
    return entries


def credentials_among(entries: Iterable[FileEntry], source: Path) -> list[tuple[str, str]]:
    """Which of the files at `source` are credentials, and what."""
    found: list[tuple[str, str]] = []
    for entry in entries:
        path = source / entry.path
        if entry.digest is not None and path.is_file():
            with open(path, "rb") as file:
                if words := credential_file(str(path), file.read(LOOKED_INTO)):
                    found.append((entry.path or source.name, words))
    return found


def placed_files(entries: Iterable[FileEntry], source: Path) -> tuple[PlacedFile, ...]:
    """What `Workspace.place` needs; the bytes are still on the host, under `source`."""
    from klock.files.placed import PlacedFile

    return tuple(
        PlacedFile(
            path=entry.path,
            mode=entry.mode,
            source=source / entry.path if entry.digest else None,
            digest=entry.digest,
            target=entry.target,
        )
        for entry in entries
    )


def import_paths(entries: Iterable[FileEntry], destination: str) -> tuple[str, ...]:
    """The folders to put on `sys.path` so that a package folder placed at `destination` can be imported.

    A folder with an `__init__.py`, and no project file beside it, is itself the import package: its parent. A project
    with a `src` folder that is not a package: that folder (the src layout). Else the folder itself.
    """
    paths = {entry.path: entry for entry in entries}
    is_project = any(name in paths for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    if "__init__.py" in paths and not is_project:
        return (posixpath.dirname(destination),)
    has_src = "src" in paths and paths["src"].is_folder and "src/__init__.py" not in paths
    if has_src and any(path.startswith("src/") and path.endswith(".py") for path in paths):
        return (posixpath.join(destination, "src"),)
    return (destination,)
