"""Stale: where image and lockfile disagree. Drafts of the image's steps against the lockfile's steps, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from klock.draft import as_draft
from klock.findings import Code, Finding
from klock.lockfile.model import (
    AptLock,
    EnvLock,
    FileEntry,
    FilesLock,
    ImageLock,
    PipLock,
    ServiceLock,
    ShellLock,
    StepLock,
)
from klock.replay.plan import describe

__all__ = ["compare_image", "compare_steps"]


def compare_image(wanted: ImageLock, locked: ImageLock) -> Iterator[Finding]:
    """The image's own settings."""
    for name in ("python_path", "install_cmd"):
        old, new = getattr(locked, name), getattr(wanted, name)
        if old != new:
            yield Finding(
                code=Code.STALE_IMAGE, message=f"{name} is {new}, the lockfile has {old}", expected=old, found=new
            )


def compare_steps(
    drafts: Sequence[StepLock], locked: Sequence[StepLock], locations: Sequence[str | None]
) -> Iterator[Finding]:
    """A finding for each step that was added, removed or changed, with the files it is about, in the image's order.

    Steps are matched as a diff matches lines, so one inserted step is one finding and not a finding for each later one.
    """
    old = [as_draft(step) for step in locked]
    if old == list(drafts):
        return
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(a=_lines(old), b=_lines(drafts), autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            continue
        paired = min(i2 - i1, j2 - j1)
        for offset in range(paired):
            before, after = old[i1 + offset], drafts[j1 + offset]
            position = j1 + offset
            if type(before) is type(after):
                yield from _compare(before, after, position + 1, locations[position])
            else:
                yield _finding(f"{describe(after)} replaces {describe(before)}", position + 1, locations[position])
        for position in range(j1 + paired, j2):
            yield _finding(f"{describe(drafts[position])} is not in the lockfile", position + 1, locations[position])
        for position in range(i1 + paired, i2):
            yield Finding(
                code=Code.STALE_STEP, message=f"{describe(old[position])} is in the lockfile, not in the image"
            )


def _lines(steps: Sequence[StepLock]) -> list[str]:
    return [repr(step) for step in steps]


def _finding(message: str, step: int, location: str | None) -> Finding:
    return Finding(code=Code.STALE_STEP, message=message, step=step, location=location)


def _compare(before: StepLock, after: StepLock, step: int, location: str | None) -> Iterator[Finding]:
    """The differences of two steps of one kind."""
    match before, after:
        case FilesLock(), FilesLock():
            yield from _compare_files(before, after, step, location)
        case PipLock(), PipLock():
            yield from _compare_pip(before, after, step, location)
        case EnvLock(), EnvLock():
            old = {v.name: v for v in before.variables}
            new = {v.name: v for v in after.variables}
            for name in sorted({*old, *new}):
                if name not in new:
                    yield _finding(f"variable {name} is in the lockfile, not in the image", step, location)
                elif name not in old:
                    yield _finding(f"variable {name} is not in the lockfile", step, location)
                elif old[name] != new[name]:
                    yield _changed(f"variable {name}", old[name].value, new[name].value, step, location)
            if sorted(old) == sorted(new) and all(old[n] == new[n] for n in old):
                yield _finding("the variables are in another order", step, location)
        case (AptLock(), AptLock()):
            if before.packages != after.packages:
                yield _changed("apt_install", " ".join(before.packages), " ".join(after.packages), step, location)
            yield from _compare_force(before, after, step, location)
        case (ShellLock(), ShellLock()):
            if before.command != after.command:
                yield _changed("run_bash", before.command, after.command, step, location)
            for name in ("leave_out", "keep_layer", "private_urls"):
                old_value, new_value = getattr(before, name), getattr(after, name)
                if old_value != new_value:
                    yield _changed(name, str(old_value), str(new_value), step, location)
            yield from _compare_force(before, after, step, location)
        case (ServiceLock(), ServiceLock()):
            yield _changed("run_bash", before.command, after.command, step, location)
        case _:
            raise AssertionError("steps of one kind are compared")


def _compare_force(
    before: PipLock | AptLock | FilesLock | ShellLock,
    after: PipLock | AptLock | FilesLock | ShellLock,
    step: int,
    location: str | None,
) -> Iterator[Finding]:
    if before.force != after.force:
        yield _changed("force", str(before.force), str(after.force), step, location)


def _changed(what: str, old: str, new: str, step: int, location: str | None) -> Finding:
    return Finding(
        code=Code.STALE_STEP, message=f"{what} changed", step=step, location=location, expected=old, found=new
    )


def _compare_pip(before: PipLock, after: PipLock, step: int, location: str | None) -> Iterator[Finding]:
    removed = [r for r in before.requirements if r not in after.requirements]
    added = [r for r in after.requirements if r not in before.requirements]
    for requirement in added:
        yield _finding(f"requirement {requirement} is not in the lockfile", step, location)
    for requirement in removed:
        yield _finding(f"requirement {requirement} is in the lockfile, not in the image", step, location)
    if not added and not removed and before.requirements != after.requirements:
        yield _finding("the requirements are in another order", step, location)
    old = {f.path: f.digest for f in before.files}
    new = {f.path: f.digest for f in after.files}
    yield from _compare_digests(old, new, step, location)
    yield from _compare_force(before, after, step, location)


def _compare_files(before: FilesLock, after: FilesLock, step: int, location: str | None) -> Iterator[Finding]:
    for name in ("source", "destination", "dest", "contents", "filter_options", "package", "import_paths"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield _changed(name.replace("_", " "), str(old), str(new), step, location)
    entries_before = {e.path: _summary(e) for e in before.entries}
    entries_after = {e.path: _summary(e) for e in after.entries}
    yield from _compare_digests(entries_before, entries_after, step, location, source=after.source)
    yield from _compare_force(before, after, step, location)


def _summary(entry: FileEntry) -> str:
    return f"{entry.digest or entry.target or 'folder'} mode {entry.mode:04o}"


def _compare_digests(
    before: Mapping[str, str], after: Mapping[str, str], step: int, location: str | None, source: str = ""
) -> Iterator[Finding]:
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        shown = "/".join(part for part in (source.rstrip("/").removeprefix("./"), path) if part)
        verb = "changed" if old and new else "was removed" if old else "is new"
        yield Finding(
            code=Code.STALE_FILE,
            message=f"{shown} {verb}",
            step=step,
            location=location,
            path=shown,
            expected=old,
            found=new,
        )
