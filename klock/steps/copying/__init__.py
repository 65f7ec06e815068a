"""COPY and ADD of a Dockerfile: files of the build context, each locked by path, mode and hash, placed as docker does.

Texts that stand in the Dockerfile are in the lockfile; what ADD fetches is locked by its hash, of a git repository
the commit too.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klock.digests import Digest, digest_of_bytes
from klock.errors import HashMismatch
from klock.findings import Finding
from klock.image.steps import FromContext
from klock.lockfile.model import CopyLock
from klock.secrets.credential_files import CredentialFiles
from klock.steps.at import StepAt
from klock.steps.copying.reading import UNKNOWN_HASH
from klock.steps.kind import UNKNOWN_LAYER, Fetched, Input, Kind, OpenBelow, Writes
from klock.steps.parts import Part, Sort, part_of_file
from klock.steps.staleness import changed, changed_files
from klock.words import in_bytes, some

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.files.placed import PlacedFile
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.kind import RunningSystem
    from klock.steps.locking import Locking
    from klock.workshop.protocol import Workspace

__all__ = ["KIND"]

_RULES = 2
"""The version of the rules for placing files. klock does not reuse a layer that was made by other rules."""
_RULES_OF_PARENTS = 2
"""The same of `COPY --parents`."""
_SETTINGS = ("sources", "destination", "into", "owner", "chmod", "exclude", "parents", "stage", "texts")


class CopyKind(Kind[FromContext, CopyLock]):
    method = "copy"
    is_copied = True
    can_be_taken_back = True

    def describe(self, step: CopyLock) -> str:
        what = f"--from={step.stage} " if step.stage else ""
        what += some([*step.sources, *(f"<<{text.path or 'EOF'}" for text in step.texts)])
        return f"copy {what} -> {step.destination}"

    def texts(self, step: CopyLock) -> Sequence[str]:
        return [*(each.url for each in step.downloads), *(each.url for each in step.repositories)]

    def draft(self, step: FromContext, drafting: Drafting) -> CopyLock:
        from klock.files.build_context import BuildContext
        from klock.steps.copying.reading import read_copy

        where = step.location.below(drafting.root) if step.location else "copy"
        credentials = CredentialFiles(treatment=drafting.credential_files)
        context = BuildContext(
            folder=Path(step.context),
            ignore_file=None if step.ignore_file is None else Path(step.ignore_file),
            where=where,
            store=drafting.store,
            credentials=credentials,
        )
        draft = read_copy(step, context, drafting)
        drafting.notes += _about_what_is_left_out(draft, where)
        drafting.notes += credentials.notes(where)
        return draft

    def as_draft(self, step: CopyLock) -> CopyLock:
        downloads = tuple(
            replace(each, size=0, sha256=each.sha256 if each.pinned else UNKNOWN_HASH) for each in step.downloads
        )
        repositories = step.repositories
        if repositories:
            from klock.steps.copying.repositories import draft_of

            repositories = tuple(draft_of(each) for each in repositories)
        return replace(step, layer=UNKNOWN_LAYER, downloads=downloads, repositories=repositories)

    def changes(self, before: CopyLock, after: CopyLock) -> Iterator[Finding]:
        for name in _SETTINGS:
            old, new = getattr(before, name), getattr(after, name)
            if old != new:
                yield changed(name, str(old), str(new))
        if [(each.url, each.archive) for each in before.downloads] != [(e.url, e.archive) for e in after.downloads]:
            yield changed("URLs", str(before.downloads), str(after.downloads))
        if before.repositories or after.repositories:
            from klock.steps.copying.repositories import question

            old, new = ([question(each) for each in step.repositories] for step in (before, after))
            if old != new:
                yield changed("repositories", str(old), str(new))
        yield from changed_files(_summaries(before), _summaries(after))

    def source(self, step: FromContext) -> Path | None:
        return Path(step.context) if step.stage is None else None

    def parts(self, at: StepAt[CopyLock]) -> Iterator[Part]:
        step = at.step
        if step.stage is not None or _unpacks(step):
            yield from super().parts(at)
        for file in step.files:
            yield part_of_file(
                _path(step, file.path), mode=file.mode, size=file.size, identity=file.digest or "", target=file.target
            )
        for text in step.texts:
            content = text.content.encode("utf-8", "surrogateescape")
            digest = digest_of_bytes(content)
            yield part_of_file(_path(step, text.path), mode=text.mode, size=len(content), identity=digest)
        for each in step.downloads:
            yield part_of_file(_path(step, each.path), mode=each.mode, size=each.size, identity=each.sha256)
            yield Part(sort=Sort.REQUEST, name=f"GET {each.url}", value=in_bytes(each.size), identity=each.sha256)
        for repository in step.repositories:
            what = " ".join(filter(None, (repository.url, repository.reference, repository.folder)))
            yield Part(sort=Sort.REQUEST, name=f"git {what}", value=repository.commit, identity=repository.sha256)

    # -- locking

    def complete(self, draft: CopyLock, locking: Locking) -> CopyLock:
        if draft.downloads:
            from klock.steps.copying.downloads import lock_downloads

            draft = lock_downloads(draft, locking)
        if draft.repositories:
            from klock.steps.copying.repositories import lock_repositories

            draft = lock_repositories(draft, locking)
        return draft

    def repeats(self, at: StepAt[CopyLock]) -> bool:
        return True

    def moved(self, at: StepAt[CopyLock], context: Context, asker: Asker) -> Iterator[Finding]:
        from klock.steps.copying.downloads import moved_downloads

        yield from moved_downloads(at, context, asker)
        if at.step.repositories:
            from klock.steps.copying.repositories import moved_repositories

            yield from moved_repositories(at.step, context)

    # -- replay

    def content(self, at: StepAt[CopyLock], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        step = at.step
        files = [[file.path, file.mode, file.digest, file.target, file.archive] for file in step.files]
        texts = [[text.path, text.content, text.mode] for text in step.texts]
        downloads = [[each.path, each.sha256, each.mode, *["unpacked"] * each.archive] for each in step.downloads]
        if step.stage is not None:
            stage = at.lock.locks_of_stages[step.stage]
            parents = _RULES_OF_PARENTS if step.parents else False
            origin = [stage.base.id, *stage.layers, list(step.sources), list(step.exclude), parents, step.chmod]
            return ["copy_from", _RULES, step.destination, step.into, step.owner, origin, *texts, *_own_names(step)]
        content: list[Any] = ["copy_in", _RULES, step.destination, step.into, step.owner, files, texts, downloads]
        content += _own_names(step)
        if step.repositories:
            content.append([[each.sha256 for each in step.repositories], list(step.exclude), step.chmod])
        return content

    def fetched(self, at: StepAt[CopyLock]) -> Iterator[Fetched]:
        yield from at.step.downloads
        yield from at.step.repositories

    def inputs_to_run(self, at: StepAt[CopyLock]) -> Iterator[Input]:
        for each in at.step.downloads:
            yield Input(digest=f"sha256:{each.sha256}", size=each.size, name=each.url)
        for repository in at.step.repositories:
            name = f"{repository.url} at commit {repository.commit}"
            # A commit that no branch leads to any more is gone some day, as when a branch was rewritten.
            yield Input(digest=f"sha256:{repository.sha256}", size=repository.size, name=name, permanent=False)

    def bring_in(
        self, at: StepAt[CopyLock], wanted: Set[Digest], context: Context, *, open_below: OpenBelow
    ) -> Iterator[Callable[[], None]]:
        from klock.steps.copying.downloads import fetch

        yield lambda: fetch([d for d in at.step.downloads if f"sha256:{d.sha256}" in wanted], context)
        if at.step.repositories:
            from klock.steps.copying.repositories import fetch_repositories

            yield lambda: fetch_repositories(
                [each for each in at.step.repositories if f"sha256:{each.sha256}" in wanted], context
            )

    def perform(self, at: StepAt[CopyLock], workspace: Workspace, context: Context) -> None:
        from klock.steps.leaks import refuse_leaks

        step = at.step
        if step.stage is not None:
            _copy_from(at, step.stage, workspace, context)
            if not step.texts:
                return
        if step.downloads:
            from klock.steps.copying.downloads import fetch

            fetch(step.downloads, context)
        try:
            with self._placed(at, context) as placed:
                workspace.place(placed, step.destination, owner=step.owner or "", keep=True)
        except HashMismatch as error:
            raise at.failed(
                f": {error.message}", hint="run `klock lock`: the file changed after it was locked"
            ) from error
        refuse_leaks(at, workspace, context)

    def keep(self, at: StepAt[CopyLock]) -> tuple[str, ...]:
        """All it places belongs to its layer, also below /tmp."""
        step = at.step
        if step.stage is not None:
            return (step.destination,) if step.destination.startswith(("/tmp/", "/var/tmp/")) else ("/tmp/**",)
        names = [posixpath.join(step.destination, path).rstrip("/") for path in _paths(step)]
        if not step.into:
            # Into a folder that is there already.
            names += [posixpath.join(step.destination, name) for name in _own_names(step)]
        if step.repositories:
            names += [step.destination, f"{step.destination.rstrip('/')}/**"]
        return tuple(sorted({name for name in names if name.startswith(("/tmp/", "/var/", "/root/.", "/home/"))}))

    @contextmanager
    def _placed(self, at: StepAt[CopyLock], context: Context) -> Iterator[list[PlacedFile]]:
        """What it places; the files are there until the end of the block."""
        placed = self._placed_files(at, context)
        if not at.step.repositories:
            yield placed
            return
        from klock.steps.copying.repositories import fetch_repositories, placed_repositories
        from klock.workshop.scratch import scratch_folder

        fetch_repositories(at.step.repositories, context)
        with scratch_folder(context.store) as folder:
            yield [*placed, *placed_repositories(at.step, folder, context)]

    def _placed_files(self, at: StepAt[CopyLock], context: Context) -> list[PlacedFile]:
        from klock.files.build_context import path_inside
        from klock.files.placed import PlacedFile
        from klock.layers.archive_files import is_archive
        from klock.secrets.references import reveal

        step = at.step
        placed = []
        if step.files and at.source is None:
            raise at.failed(f": the build context is needed to find the files of {at.text}")
        for file in step.files:
            placed.append(
                PlacedFile(
                    path=file.path,
                    mode=file.mode,
                    source=path_inside(at.source, file.in_context) if at.source and file.digest else None,
                    digest=file.digest,
                    target=file.target,
                    archive=file.archive,
                    name=file.own_name,
                )
            )
        for text in step.texts:
            content = reveal(text.content, step.secrets, context.environ).encode("utf-8", "surrogateescape")
            digest = context.store.add_bytes(content)
            path = context.store.blob_path(digest)
            placed.append(PlacedFile(path=text.path, mode=text.mode, source=path, digest=digest, name=text.own_name))
        for each in step.downloads:
            digest = f"sha256:{each.sha256}"
            path = context.store.blob_path(digest)
            if each.archive and is_archive(path):
                placed.append(PlacedFile(path="", mode=each.mode, source=path, digest=digest, archive=True))
            else:
                placed.append(
                    PlacedFile(path=each.path, mode=each.mode, source=path, digest=digest, name=each.own_name)
                )
        several = sum(bool(file.name) for file in placed) > 1
        return [replace(file, is_one_of_several=True) for file in placed] if several else placed

    def copied_paths(self, step: CopyLock) -> Iterator[str]:
        return (file.in_context for file in step.files)

    # -- in a running system

    def writes(self, at: StepAt[CopyLock], system: RunningSystem, context: Context) -> Writes | None:
        step = at.step
        if step.stage is not None or _unpacks(step):
            return None
        paths = [posixpath.join(step.destination, path).rstrip("/") for path in _paths(step)]
        if not step.into:
            # Into a folder that is there already.
            paths += [posixpath.join(step.destination, name) for name in _own_names(step)]
        return Writes(paths=[*paths, *self.anchors(step)])

    def anchors(self, step: CopyLock) -> list[str]:
        return [step.destination]

    # -- export

    def export(self, at: StepAt[CopyLock], exporting: Exporting) -> None:
        from klock.steps.copying.export import write_copy_step

        write_copy_step(at, exporting)


def _copy_from(at: StepAt[CopyLock], name: str, workspace: Workspace, context: Context) -> None:
    from klock.workshop.protocol import TreeCopy

    step = at.step
    stage = context.make_stage(name, at.lock)
    wanted = TreeCopy(
        name=name,
        base=stage.base.id,
        layers=stage.layers,
        sources=step.sources,
        destination=step.destination,
        into=step.into,
        owner=step.owner,
        chmod=step.chmod,
        exclude=step.exclude,
        parents=step.parents,
    )
    workspace.copy_from(wanted)


def _path(step: CopyLock, path: str) -> str:
    return posixpath.join(step.destination, path).rstrip("/")


def _unpacks(step: CopyLock) -> bool:
    """Whether it writes paths that nobody knows before an archive, or a repository, is read."""
    archives = any(each.archive for each in step.files) or any(each.archive for each in step.downloads)
    return archives or bool(step.repositories)


def _paths(step: CopyLock) -> Iterator[str]:
    """All that it places, relative to the destination."""
    yield from (file.path for file in step.files)
    yield from (text.path for text in step.texts)
    yield from (each.path for each in step.downloads)


def _own_names(step: CopyLock) -> list[str]:
    """The names that single files have in a destination that turns out to be a folder."""
    found = [
        *(file.own_name for file in step.files),
        *(each.own_name for each in step.downloads),
        *(text.own_name for text in step.texts),
    ]
    return [name for name in found if name]


def _summaries(step: CopyLock) -> dict[str, str]:
    return {file.in_context: f"{file.digest or file.target or 'folder'} {file.mode:04o}" for file in step.files}


def _about_what_is_left_out(draft: CopyLock, where: str) -> Iterator[str]:
    """Of a folder of a stage that layers leave empty; those of /tmp are kept where another stage names them."""
    from klock.layers.normalisation import is_left_out

    for source in draft.sources if draft.stage is not None and not set(draft.stage) & set("/:@") else ():
        path = posixpath.normpath(posixpath.join("/", source))
        if not path.startswith(("/tmp", "/var/tmp")) and is_left_out(f"{path.strip('/')}/x"):
            yield f"{where} copies {path} of a stage, and layers leave out what is in it, as docs/layers.md says"


KIND = CopyKind()
