"""How a step that changed since it was locked is told: the findings that the rooms have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from klock.findings import Code, Finding
from klock.lockfile.model import StepLock

__all__ = ["changed", "changed_files", "changed_options", "stale"]


_OPTIONS: Final = ("force", "leave_out", "keep_layer")


def stale(message: str) -> Finding:
    return Finding(code=Code.STALE_STEP, message=message)


def changed(what: str, old: str, new: str) -> Finding:
    return Finding(code=Code.STALE_STEP, message=f"{what} changed", expected=old, found=new)


def changed_options(before: StepLock, after: StepLock) -> Iterator[Finding]:
    """What several kinds of step may be given besides what they do."""
    for name in _OPTIONS:
        old, new = getattr(before, name, None), getattr(after, name, None)
        if old != new:
            yield changed(name, str(old), str(new))


def changed_files(before: Mapping[str, str], after: Mapping[str, str], source: str = "") -> Iterator[Finding]:
    """By path below `source`, a text that differs when the file does."""
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        shown = "/".join(part for part in (source.rstrip("/").removeprefix("./"), path) if part)
        verb = "changed" if old and new else "was removed" if old else "is new"
        yield Finding(code=Code.STALE_FILE, message=f"{shown} {verb}", path=shown, expected=old, found=new)
