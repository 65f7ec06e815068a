"""What a new lockfile has in another version than the one before: the lines of a review, in short."""

from __future__ import annotations

from collections.abc import Iterator

from klock.inventory.changes import compare
from klock.lockfile.model import Lockfile
from klock.steps.parts import Sort

__all__ = ["moved"]


def moved(before: Lockfile, after: Lockfile) -> Iterator[str]:
    """`update numpy 2.0 -> 2.1`, `add x 1.0`, `remove y 1.0`, each once, of the targets that both have."""
    for change in compare(before, after).changes:
        if change.sort is Sort.DEB:
            yield f"{change.verb} {change.name} (Debian) {change.what}"
        elif change.sort is Sort.PACKAGE or (change.sort is Sort.BASE and change.part.identity):
            yield str(change)
