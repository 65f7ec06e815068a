"""COPY and ADD in an exported Dockerfile: the locked files in its context, laid out as they lie in the image."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from klock.digests import hex_of
from klock.files.build_context import path_inside
from klock.layers.archive_files import is_archive
from klock.lockfile.model import CopiedFile, CopiedText, CopyLock, DownloadedFile
from klock.pages.build_context import ContextFile
from klock.pages.sums import sums_script
from klock.steps.at import StepAt
from klock.steps.exporting import stage_label

if TYPE_CHECKING:
    from klock.steps.exporting import Exporting

__all__ = ["write_copy_step"]


def write_copy_step(at: StepAt[CopyLock], exporting: Exporting) -> None:
    """Raises KlockError for what kubetorch does not read, and for a text with a credential."""
    page, step, context = exporting.page, at.step, exporting.context
    page.refuse_for_kubetorch("COPY with docker's meaning")
    if step.stage is not None:
        _copy_from_stage(at, exporting)
        if not step.texts:
            return
    if step.secrets:
        raise page.error("a text that it copies has a credential", hint="mount it as a secret in a RUN")
    source = at.source
    if source is None and step.files:
        raise page.error("the build context is needed to find its files", hint="export without --frozen")
    files: dict[str, ContextFile] = {}
    archives: list[ContextFile] = []
    folder = f"{at.folder}/files"

    def place_of(each: CopiedFile | CopiedText | DownloadedFile) -> str:
        """The path in the context. What may go into a folder under its own name has that name here too."""
        return f"{at.folder}/named/{each.own_name}" if each.own_name else f"{folder}/{each.path}".rstrip("/")

    for copied in step.files:
        file = ContextFile(
            path=place_of(copied),
            mode=copied.mode,
            source=path_inside(source, copied.in_context) if source and copied.digest else None,
            digest=copied.digest,
            target=copied.target,
        )
        if copied.archive:
            archives.append(file)
        elif copied.path or not copied.is_folder:
            files[file.path] = file
    for text in step.texts:
        path = place_of(text)
        files[path] = ContextFile(path=path, mode=text.mode, content=text.content.encode())
    for each in step.downloads:
        digest = f"sha256:{each.sha256}"
        blob = context.store.blob_path(digest)
        file = ContextFile(path=place_of(each), mode=each.mode, source=blob, digest=digest)
        if each.archive and is_archive(blob):
            archives.append(file)
        else:
            files[file.path] = file
    if step.repositories:
        from klock.steps.copying.repositories import exported_repositories

        files |= {file.path: file for file in exported_repositories(step, folder, context)}
    page.become("")
    flags = f"--chown={step.owner} " if step.owner else ""
    below = [file for file in files.values() if file.path.startswith(f"{folder}/")]
    named = [file for file in files.values() if file not in below]
    if below:
        page.copy_folder(below, folder, step.destination, flags=flags)
    for file in named:
        chmod = "" if _is_usual(file) else f"--chmod={file.mode:04o} "
        page.copy_file(file, f"{step.destination}{'/' * (len(named) > 1)}", flags=f"{flags}{chmod}")
    for number, archive in enumerate(archives):
        name = f"{at.folder}/archive-{number}"
        page.files.append(ContextFile(path=name, mode=archive.mode, source=archive.source, digest=archive.digest))
        page.add(f"ADD {flags}{name} {step.destination}/")
    sums = [(f".{file.path.removeprefix(folder)}", hex_of(file.digest)) for file in below if file.digest]
    modes = [
        f"chmod {file.mode:04o} {shlex.quote(f'.{file.path.removeprefix(folder)}')}"
        for file in below
        if not _is_usual(file)
    ]
    if sums or modes:
        lines = ["set -eu", f"cd -- {shlex.quote(step.destination)}", *sums_script(sums), *modes]
        script = "".join(f"{line}\n" for line in lines).encode()
        page.run_script(ContextFile(path=f"{at.folder}/check.sh", content=script))


def _is_usual(file: ContextFile) -> bool:
    """Whether its mode says no more than that it can be executed: a build context has no other for klock."""
    return file.target is not None or file.mode in (0o644, 0o755)


def _copy_from_stage(at: StepAt[CopyLock], exporting: Exporting) -> None:
    step, page = at.step, exporting.page
    names = [stage.name for stage in at.lock.stages]
    flags = [f"--from={stage_label(names.index(step.stage or ''))}"]
    flags += [f"--chown={step.owner}"] if step.owner else []
    flags += [f"--chmod={step.chmod}"] if step.chmod else []
    flags += [f"--exclude={pattern}" for pattern in step.exclude]
    flags += ["--parents"] if step.parents else []
    paths = [*step.sources, step.destination.rstrip("/") + "/" if step.into else step.destination]
    page.become("")
    page.add(f"COPY {' '.join(flags)} {json.dumps(paths, ensure_ascii=False)}")
