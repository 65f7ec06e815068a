"""WORKDIR: the folder that later steps and containers begin in. It is made, and belongs to the user of the moment."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from klock.errors import ImageError
from klock.findings import Finding
from klock.image.steps import SetWorkingDir
from klock.lockfile.model import WorkdirLock
from klock.steps.at import StepAt
from klock.steps.kind import UNKNOWN_LAYER, Kind, Writes
from klock.steps.parts import Part, Sort
from klock.steps.staleness import changed

if TYPE_CHECKING:
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.kind import RunningSystem
    from klock.workshop.protocol import Workspace

__all__ = ["KIND"]


class WorkdirKind(Kind[SetWorkingDir, WorkdirLock]):
    method = "workdir"
    is_copied = True
    can_be_taken_back = True

    def describe(self, step: WorkdirLock) -> str:
        return f"workdir {step.working_dir}"

    def draft(self, step: SetWorkingDir, drafting: Drafting) -> WorkdirLock:
        path = drafting.expansion(step.escape).word(step.path)
        if "\0" in path:
            raise ImageError(f"WORKDIR {path!r} has a NUL character", hint="remove it")
        drafting.working_dir = posixpath.normpath("/" + posixpath.join(drafting.working_dir, path).lstrip("/"))
        is_as_written = path in ("", drafting.working_dir) or not path.startswith("/")
        return WorkdirLock(
            working_dir=drafting.working_dir, layer=UNKNOWN_LAYER, written=None if is_as_written else path
        )

    def as_draft(self, step: WorkdirLock) -> WorkdirLock:
        return replace(step, layer=UNKNOWN_LAYER)

    def changes(self, before: WorkdirLock, after: WorkdirLock) -> Iterator[Finding]:
        yield changed("workdir", before.written or before.working_dir, after.written or after.working_dir)

    def parts(self, at: StepAt[WorkdirLock]) -> Iterator[Part]:
        yield Part(sort=Sort.SETTING, name="workdir", value=at.step.working_dir)

    def repeats(self, at: StepAt[WorkdirLock]) -> bool:
        return True

    def content(self, at: StepAt[WorkdirLock], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        return ["workdir", at.step.written or at.step.working_dir, at.before.user]

    def perform(self, at: StepAt[WorkdirLock], workspace: Workspace, context: Context) -> None:
        from klock.files.placed import PlacedFile

        for path in _folders(at.step.written or at.step.working_dir):
            workspace.place([PlacedFile(path="", mode=0o755)], path, owner=at.before.user, keep=True)

    def keep(self, at: StepAt[WorkdirLock]) -> tuple[str, ...]:
        """It is there for the steps after it, also below /tmp."""
        path = at.step.working_dir
        return (path,) if path.startswith(("/tmp/", "/var/tmp/")) else ()

    def writes(self, at: StepAt[WorkdirLock], system: RunningSystem, context: Context) -> Writes:
        return Writes(paths=[at.step.working_dir])

    def anchors(self, step: WorkdirLock) -> list[str]:
        return [step.working_dir]

    def export(self, at: StepAt[WorkdirLock], exporting: Exporting) -> None:
        exporting.page.work_in(at.step.written or at.step.working_dir)


def _folders(path: str) -> Iterator[str]:
    """The folders that are made for a path, part by part: for `/a/b/../c` also `/a/b`."""
    parts = path.split("/")
    for number, part in enumerate(parts):
        if part == "..":
            yield posixpath.normpath("/".join(["", *parts[1:number]]))
    yield posixpath.normpath(path)


KIND = WorkdirKind()
