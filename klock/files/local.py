"""One step's local files, read: source, destination, entries, and what an engine needs to place them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from klock.digests import Digest
from klock.files.destination import copies_contents, destination, package_destination, source_path
from klock.files.digest_cache import DigestCache
from klock.files.scan import scan, tree_digest
from klock.image.steps import CopyFiles, SyncPackage
from klock.lockfile.model import FileEntry
from klock.store import Store

if TYPE_CHECKING:
    from klock.workshop.protocol import PlacedFile

__all__ = ["LocalFiles", "import_paths", "placed_files", "read_local_files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFiles:
    """`source` is the absolute host path, `destination` the absolute path in the environment: of the file itself when
    the source is a file (its one entry has path ""), else of the folder that the entries are below.

    `import_paths` are the folders of the environment to put on `sys.path`, for a synced package.
    """

    source: Path
    destination: str
    entries: tuple[FileEntry, ...]
    import_paths: tuple[str, ...] = ()

    @property
    def tree(self) -> Digest:
        return tree_digest(self.entries)

    @property
    def placed(self) -> tuple[PlacedFile, ...]:
        return placed_files(self.entries, self.source)


def read_local_files(
    step: CopyFiles | SyncPackage, *, working_dir: str, where: str, store: Store | None = None
) -> LocalFiles:
    """Reads what `step` would place. With a store, files that did not change since the last time are not read again.

    `where` names the step in messages. Raises ImageError.
    """
    source = Path(step.path) if isinstance(step, SyncPackage) else source_path(step)
    digests = DigestCache.of_source(store, source) if store else DigestCache()
    if isinstance(step, SyncPackage):
        entries = scan(source, root=source, contents=False, filter_options=None, where=where, digests=digests)
        place = package_destination(step, working_dir)
        result = LocalFiles(
            source=source, destination=place, entries=entries, import_paths=import_paths(entries, place)
        )
    else:
        entries = scan(
            source,
            root=Path(step.root),
            contents=copies_contents(step),
            filter_options=step.filter_options,
            where=where,
            digests=digests,
        )
        place = destination(step, working_dir, is_folder=source.is_dir(), where=where)
        result = LocalFiles(source=source, destination=place, entries=entries)
    digests.save()
    return result


def placed_files(entries: Iterable[FileEntry], source: Path) -> tuple[PlacedFile, ...]:
    """What `Workspace.place` needs; the bytes are still on the host, under `source`."""
    from klock.workshop.protocol import PlacedFile

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
    with a `src` folder that is no package: that folder (the src layout). Else the folder itself.
    """
    paths = {entry.path: entry for entry in entries}
    is_project = any(name in paths for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    if "__init__.py" in paths and not is_project:
        return (posixpath.dirname(destination),)
    has_src = "src" in paths and paths["src"].is_folder and "src/__init__.py" not in paths
    if has_src and any(path.startswith("src/") and path.endswith(".py") for path in paths):
        return (posixpath.join(destination, "src"),)
    return (destination,)
