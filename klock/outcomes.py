"""What the verbs give back, as values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from klock.values import dataclass

# What does the work is imported when there is some: a verb that finds nothing to do takes little.
if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.findings import Finding
    from klock.lockfile.model import Lockfile
    from klock.places.protocol import Place
    from klock.replay.goal import Goal
    from klock.targets import Target

__all__ = ["Checked", "Locked", "Synced", "as_is"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """`lockfile` is what is locked now, at `path`; `previous` what was there before. `written`: the file changed.

    `notes` are what was said of the image's files where nothing had to be locked: `is_as_before`.
    """

    lockfile: Lockfile
    path: Path
    previous: Lockfile | None
    written: bool
    notes: tuple[str, ...] = ()

    @property
    def is_as_before(self) -> bool:
        """Whether the image and its files gave what is locked already, so that nothing was looked up."""
        return self.previous is self.lockfile

    @property
    def would_change(self) -> bool:
        """Whether the file's text is another one than before, written or not."""
        from klock.lockfile.writing import to_text

        return self.previous is None or to_text(self.previous) != to_text(self.lockfile)

    @property
    def moved(self) -> list[str]:
        """What has another version than before, a line each: `update numpy 2.0 -> 2.1`."""
        if self.previous is None or self.is_as_before:
            return []
        from klock.locking.moved import moved

        return list(moved(self.previous, self.lockfile))


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """The environment of `target` at `place`, with the fingerprint of what is locked.

    `changed`: it is another one than before. `ran` is the number of steps that ran, of `steps`. `is_locked` is False
    only for a running container that was forced and is not what is locked.
    """

    place: str
    where: str
    target: Target
    fingerprint: Digest
    steps: int
    changed: bool = False
    ran: int = 0
    is_locked: bool = True

    def __str__(self) -> str:
        if not self.is_locked:
            return "this container was synced with --force: it is not what the lockfile says"
        from klock.words import counted

        state = "synced" if self.changed else "unchanged"
        ran = f", {self.ran} of {counted(self.steps, 'step')} ran" if self.ran else ""
        return f"environment {state}{self.where}: {self.target}{ran}, {self.fingerprint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """`findings` are all ways in which image, `lockfile` and environment disagree; `hints` say what to do first, and
    `notes` what could not be found out."""

    lockfile: Lockfile
    findings: tuple[Finding, ...]
    hints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        return not self.findings


def as_is(goal: Goal, place: Place) -> Synced:
    """What a sync says that finds nothing to do."""
    return Synced(
        place=place.name,
        where=place.where,
        target=goal.lock.target,
        fingerprint=goal.lock.fingerprint,
        steps=len(goal.lock.layers),
    )
