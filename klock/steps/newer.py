"""What upstream has that is newer than what is locked, as kinds of steps say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeVar

from klock.steps.parts import Sort
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.image.builder import Image
    from klock.lockfile.model import ImageLock
    from klock.steps.context import Context

__all__ = ["Looking", "Newer"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer:
    """A part with another version upstream. `admitted` is what the image's own words allow, as `klock lock --upgrade`
    would take it, `newest` the newest of all; None where nobody knows."""

    sort: Sort
    name: str
    locked: str
    admitted: str | None
    newest: str | None

    @property
    def is_outdated(self) -> bool:
        return any(version not in (None, self.locked) for version in (self.admitted, self.newest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """What a kind needs to look upstream for a target of `image`. Into `notes` goes what could not be found out."""

    image: Image
    image_lock: ImageLock
    context: Context
    asker: Asker
    notes: list[str] = field(default_factory=list)
    _shared: dict[object, Any] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Each is told once."""
        if text not in self.notes:
            self.notes.append(text)

    def shared(self, key: object, find: Callable[[], T]) -> T:
        """What is found out once for all steps of a kind."""
        if key not in self._shared:
            self._shared[key] = find()
        found: T = self._shared[key]
        return found
