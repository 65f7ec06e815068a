"""`rsync`, `copy` and `sync_package`: local files, each locked by path, mode and hash, placed exactly."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klock.errors import HashMismatch
from klock.files.destination import source_path
from klock.findings import Finding
from klock.image.steps import CopyFiles, SyncPackage
from klock.lockfile.model import FileEntry, FilesLock
from klock.secrets.credential_files import CredentialFiles, Treatment
from klock.steps.at import StepAt
from klock.steps.kind import UNKNOWN_LAYER, Kind, Writes
from klock.steps.parts import Part, Sort, part_of_file
from klock.steps.staleness import changed, changed_files, changed_options
from klock.words import some

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.kind import RunningSystem
    from klock.steps.locking import Locking
    from klock.workshop.protocol import Workspace

__all__ = ["KIND"]

_SETTINGS = (
    *("source", "destination", "dest", "contents", "filter_options", "package", "import_paths"),
    *("owner", "chmod"),
)


class FilesKind(Kind[CopyFiles | SyncPackage, FilesLock]):
    method = "rsync"
    is_copied = True
    can_be_taken_back = True

    def describe(self, step: FilesLock) -> str:
        verb = f"sync_package {step.package}" if step.package else f"rsync {step.source}"
        return f"{verb} -> {step.destination}"

    def draft(self, step: CopyFiles | SyncPackage, drafting: Drafting) -> FilesLock:
        from klock.files.scan import tree_digest
        from klock.steps.files.reading import read_local_files

        where = step.location.below(drafting.root) if step.location else "copy"
        credentials = CredentialFiles(treatment=drafting.credential_files)
        files = read_local_files(
            step, working_dir=drafting.working_dir, where=where, store=drafting.store, credentials=credentials
        )
        drafting.notes += credentials.notes(where)
        draft = FilesLock(
            source=step.package if isinstance(step, SyncPackage) else step.source,
            destination=files.destination,
            entries=files.entries,
            tree=files.tree,
            layer=UNKNOWN_LAYER,
            force=step.force,
        )
        if isinstance(step, SyncPackage):
            return replace(draft, package=step.package, import_paths=files.import_paths)
        draft = replace(draft, dest=step.dest, contents=step.contents, filter_options=step.filter_options)
        if step.owner is None and step.mode is None:
            return draft
        from klock.files.modes import with_mode

        entries = tuple(with_mode(entry, step.mode) for entry in draft.entries)
        return replace(draft, owner=step.owner, chmod=step.mode, entries=entries, tree=tree_digest(entries))

    def as_draft(self, step: FilesLock) -> FilesLock:
        return replace(step, path_file=None, layer=UNKNOWN_LAYER)

    def changes(self, before: FilesLock, after: FilesLock) -> Iterator[Finding]:
        for name in _SETTINGS:
            old, new = getattr(before, name), getattr(after, name)
            if old != new:
                yield changed(name.replace("_", " "), str(old), str(new))
        yield from changed_files(_summaries(before), _summaries(after), source=after.source)
        yield from changed_options(before, after)

    def source(self, step: CopyFiles | SyncPackage) -> Path:
        return Path(step.path) if isinstance(step, SyncPackage) else source_path(step.source, root=Path(step.root))

    def named_path(self, step: CopyFiles | SyncPackage) -> Path | None:
        if isinstance(step, SyncPackage):
            return Path(step.package) if "/" in step.package else None
        return self.source(step)

    def parts(self, at: StepAt[FilesLock]) -> Iterator[Part]:
        step = at.step
        for entry in step.entries:
            path = posixpath.join(step.destination, entry.path).rstrip("/")
            yield part_of_file(path, mode=entry.mode, size=entry.size, identity=entry.digest or "", target=entry.target)
        if step.path_file is not None:
            yield Part(sort=Sort.FILE, name=step.path_file, value=f"leads to {step.package}")

    # -- locking

    def complete(self, draft: FilesLock, locking: Locking) -> FilesLock:
        """A synced package gets a `.pth` file in the folder that the environment's Python imports from."""
        if draft.package is None:
            return draft
        with locking.workspace() as workspace:
            folders = locking.probe(workspace, draft).interpreter.folders
        assert folders is not None
        name = draft.destination.rpartition("/")[2]
        return replace(draft, path_file=f"{folders.purelib}/klock-{name}.pth")

    def repeats(self, at: StepAt[FilesLock]) -> bool:
        return True

    # -- replay

    def content(self, at: StepAt[FilesLock], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        step = at.step
        owner = [] if step.owner is None else [step.owner]
        return ["copy", step.destination, step.tree, step.path_file, list(step.import_paths), *owner]

    def perform(self, at: StepAt[FilesLock], workspace: Workspace, context: Context) -> None:
        from klock.files.local import placed_files
        from klock.steps.leaks import refuse_leaks

        if at.source is None:
            raise at.failed(f": the image is needed to find the files of {at.text}")
        try:
            workspace.place(placed_files(at.step.entries, at.source), at.step.destination, owner=at.step.owner or "")
        except HashMismatch as error:
            hint = "run `klock lock`: the file changed after it was locked"
            raise at.failed(f": {error.message}", hint=hint) from error
        if at.step.path_file is not None:
            _place_path_file(at.step.path_file, at.step.import_paths, workspace, context)
        refuse_leaks(at, workspace, context)

    def copied_paths(self, step: FilesLock) -> Iterator[str]:
        return (entry.path for entry in step.entries)

    def copies_to(self, step: FilesLock) -> str:
        return step.destination

    # -- in a running system

    def writes(self, at: StepAt[FilesLock], system: RunningSystem, context: Context) -> Writes:
        step = at.step
        paths = [f"{step.destination.rstrip('/')}/{entry.path}" for entry in step.entries]
        return Writes(paths=[*paths, *self.anchors(step)])

    def anchors(self, step: FilesLock) -> list[str]:
        return [step.destination, *([] if step.path_file is None else [step.path_file])]

    # -- export

    def export(self, at: StepAt[FilesLock], exporting: Exporting) -> None:
        from klock.files.local import credentials_among
        from klock.steps.files.export import write_file_step

        page = exporting.page
        if at.source is None:
            raise page.error("the image is needed to find its files", hint="export without --frozen")
        if found := credentials_among(at.step.entries, at.source):
            credentials = CredentialFiles(treatment=exporting.context.credential_files, found=found)
            if credentials.treatment is Treatment.LEAVE_OUT and at.source.is_dir():
                raise page.error(
                    f"the lockfile has files that look like a credential: {some([path for path, _ in found])}",
                    hint='run `klock lock`: credential-files = "leave-out" is set',
                )
            if credentials.treatment is Treatment.WARN:
                for note in credentials.notes(at.name):
                    exporting.context.progress.warn(note)
        write_file_step(page, at.step, folder=at.folder, source=at.source, store=exporting.context.store)


def _place_path_file(path: str, import_paths: tuple[str, ...], workspace: Workspace, context: Context) -> None:
    """The `.pth` file that puts a synced package on Python's path (the `site` module's format)."""
    from klock.files.placed import PlacedFile

    content = "".join(f"{folder}\n" for folder in import_paths).encode()
    digest = context.store.add_bytes(content)
    file = PlacedFile(path="", mode=0o644, source=context.store.blob_path(digest), digest=digest)
    workspace.place([file], path)


def _summaries(step: FilesLock) -> dict[str, str]:
    return {entry.path: _summary(entry) for entry in step.entries}


def _summary(entry: FileEntry) -> str:
    return f"{entry.digest or entry.target or 'folder'} mode {entry.mode:04o}"


KIND = FilesKind()
