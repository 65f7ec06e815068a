"""Frees space: removes what no environment uses, or every environment too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from klock.errors import EngineError
from klock.places import places_in_use
from klock.places.protocol import Place
from klock.places.records import parts_of_all
from klock.progress import QUIET, Progress
from klock.store import Store
from klock.values import dataclass
from klock.workshop import SandboxWorkshop

__all__ = ["Removed", "clean", "prune"]


@dataclass(slots=True)
class Removed:
    """`bytes` freed in the store; by place, how many environments and leftovers went; `problems` say why a place could
    not be asked."""

    bytes: int = 0
    environments: dict[str, int] = field(default_factory=dict)
    leftovers: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def prune(store: Store, *, on_wait: Callable[[], None], progress: Progress = QUIET) -> Removed:
    """Removes bases and layers that no environment uses, and what killed commands left. Downloads stay.

    Waits for other klock processes that make or compare something, and says so by `on_wait`.
    """
    with store.alone(on_wait):
        return _remove(store, progress, environments_too=False)


def clean(store: Store, *, on_wait: Callable[[], None], kept_too: bool = False, progress: Progress = QUIET) -> Removed:
    """Removes environments too, but not those in use, and all downloads that upstream surely still has.

    With `kept_too` it removes the other downloads as well. Waits as `prune` does.
    """
    with store.alone(on_wait):
        removed = _remove(store, progress, environments_too=True)
        with progress.stage("remove downloads"):
            removed.bytes += store.remove_downloads(kept_too=kept_too)
        return removed


def _remove(store: Store, progress: Progress, *, environments_too: bool) -> Removed:
    removed, workshop = Removed(), SandboxWorkshop(store)
    for place in places_in_use(workshop, store):
        # A place that does not answer is no reason to leave the store as it is.
        try:
            if environments_too:
                _remove_environments(place, removed)
            if count := place.remove_leftovers():
                removed.leftovers[place.name] = count
        except EngineError as error:
            removed.problems.append(error.message)
    removed.bytes += workshop.remove_unused(keep=sorted(parts_of_all(store)), progress=progress)
    return removed


def _remove_environments(place: Place, removed: Removed) -> None:
    freed = [size for name in place.environments() if (size := place.remove(name)) is not None]
    removed.bytes += sum(freed)
    if freed:
        removed.environments[place.name] = len(freed)
