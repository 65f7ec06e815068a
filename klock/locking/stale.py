"""Stale: where image and lockfile disagree. Drafts of the image's steps against the lockfile's steps, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from klock.findings import Code, Finding
from klock.lockfile.model import ImageLock, StepLock
from klock.locking.draft import as_draft
from klock.steps import describe, kind_of
from klock.steps.staleness import stale
from klock.values import replace

__all__ = ["compare_image", "compare_steps"]


def compare_image(wanted: ImageLock, locked: ImageLock) -> Iterator[Finding]:
    """The image's own settings."""
    for name in ("python_path", "install_cmd", "context"):
        old, new = getattr(locked, name), getattr(wanted, name)
        if old != new:
            yield Finding(
                code=Code.STALE_IMAGE, message=f"{name} is {new}, the lockfile has {old}", expected=old, found=new
            )
    given, had = ({v.name: v.value for v in image.build_args} for image in (wanted, locked))
    for name in sorted({*given, *had}):
        if given.get(name) != had.get(name):
            words = f"the build argument {name} is {given.get(name)}, the lockfile has {had.get(name)}"
            yield Finding(code=Code.STALE_IMAGE, message=words, expected=had.get(name), found=given.get(name))


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

    matcher = SequenceMatcher(a=[repr(step) for step in old], b=[repr(step) for step in drafts], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            continue
        paired = min(i2 - i1, j2 - j1)
        for offset in range(paired):
            position = j1 + offset
            for finding in _changes(old[i1 + offset], drafts[position]):
                yield replace(finding, step=position + 1, location=locations[position])
        for position in range(j1 + paired, j2):
            finding = stale(f"{describe(drafts[position])} is not in the lockfile")
            yield replace(finding, step=position + 1, location=locations[position])
        for position in range(i1 + paired, i2):
            yield stale(f"{describe(old[position])} is in the lockfile, not in the image")


def _changes(before: StepLock, after: StepLock) -> Iterator[Finding]:
    if type(before) is type(after):
        yield from kind_of(after).changes(before, after)
    else:
        yield stale(f"{describe(after)} replaces {describe(before)}")
