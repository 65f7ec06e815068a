"""The local files of one step: what there is on the host, and where in the environment it goes."""

from __future__ import annotations

from pathlib import Path

from klock.digests import Digest
from klock.files.destination import copies_contents, file_destination, folder_destination, source_path
from klock.files.local import import_paths, read_entries
from klock.files.scan import tree_digest
from klock.image.steps import CopyFiles, SyncPackage
from klock.lockfile.model import FileEntry
from klock.secrets.credential_files import CredentialFiles
from klock.store import Store
from klock.values import dataclass

__all__ = ["LocalFiles", "read_local_files"]


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


def read_local_files(
    step: CopyFiles | SyncPackage,
    *,
    working_dir: str,
    where: str,
    store: Store | None = None,
    credentials: CredentialFiles | None = None,
) -> LocalFiles:
    """Reads what `step` would place. With a store, files that did not change since the last time are not read again.

    `where` names the step in messages; `credentials`: see `klock.files.scan`. Raises ImageError.
    """
    if isinstance(step, SyncPackage):
        return _read_package(step, working_dir=working_dir, where=where, store=store, credentials=credentials)
    root = Path(step.root)
    source = source_path(step.source, root=root)
    entries = read_entries(
        source,
        root=root,
        contents=copies_contents(step.source, contents=step.contents),
        filter_options=step.filter_options,
        where=where,
        store=store,
        credentials=credentials,
    )
    if source.is_dir():
        place = folder_destination(step.source, step.dest, contents=step.contents, working_dir=working_dir, where=where)
    else:
        place = file_destination(step.source, step.dest, working_dir=working_dir, where=where)
    return LocalFiles(source=source, destination=place, entries=entries)


def _read_package(
    step: SyncPackage, *, working_dir: str, where: str, store: Store | None, credentials: CredentialFiles | None
) -> LocalFiles:
    """A synced package becomes a folder of the working directory."""
    source = Path(step.path)
    entries = read_entries(source, root=source, where=where, store=store, credentials=credentials)
    place = folder_destination(step.folder, None, contents=False, working_dir=working_dir, where=where)
    return LocalFiles(source=source, destination=place, entries=entries, import_paths=import_paths(entries, place))
