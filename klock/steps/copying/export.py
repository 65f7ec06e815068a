"""COPY and ADD in an exported Dockerfile: the locked files in its context, laid out as they lie in the image."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from klock.digests import hex_of
from klock.files.build_context import path_inside
from klock.layers.archive_files import is_archive
from klock.lockfile.model import CopyLock
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
        return
    if step.secrets:
        raise page.error("a text that it copies has a credential", hint="mount it as a secret in a RUN")
    if at.source is None:
        raise page.error("the build context is needed to find its files", hint="export without --frozen")
    files: dict[str, ContextFile] = {}
    archives: list[ContextFile] = []
    folder = f"{at.folder}/files"
    for copied in step.files:
        file = ContextFile(
            path=f"{folder}/{copied.path}".rstrip("/"),
            mode=copied.mode,
            source=path_inside(at.source, copied.in_context) if copied.digest else None,
            digest=copied.digest,
            target=copied.target,
        )
        if copied.archive:
            archives.append(file)
        elif copied.path or not copied.is_folder:
            files[copied.path] = file
    for text in step.texts:
        files[text.path] = ContextFile(
            path=f"{folder}/{text.path}".rstrip("/"), mode=text.mode, content=text.content.encode()
        )
    for each in step.downloads:
        digest = f"sha256:{each.sha256}"
        source = context.store.blob_path(digest)
        file = ContextFile(path=f"{folder}/{each.path}".rstrip("/"), mode=each.mode, source=source, digest=digest)
        if each.archive and is_archive(source):
            archives.append(file)
        else:
            files[each.path] = file
    if step.repositories:
        from klock.steps.copying.repositories import exported_repositories

        files |= {f.path.removeprefix(f"{folder}/"): f for f in exported_repositories(step, folder, context)}
    page.become("")
    flags = f"--chown={step.owner} " if step.owner else ""
    if set(files) == {""} and not step.into:
        page.copy_file(files[""], step.destination, flags=flags)
    elif files:
        page.copy_folder(list(files.values()), folder, step.destination, flags=flags)
    for number, archive in enumerate(archives):
        name = f"{at.folder}/archive-{number}"
        page.files.append(ContextFile(path=name, mode=archive.mode, source=archive.source, digest=archive.digest))
        page.add(f"ADD {flags}{name} {step.destination}/")
    sums = [(f"./{path}", hex_of(file.digest)) for path, file in files.items() if file.digest and path]
    if sums:
        lines = ["set -eu", f"cd -- {shlex.quote(step.destination)}", *sums_script(sums)]
        script = "".join(f"{line}\n" for line in lines).encode()
        page.run_script(ContextFile(path=f"{at.folder}/check.sh", content=script))


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
