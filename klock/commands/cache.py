"""`klock cache`: the local store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from klock.commands.groups import Group
from klock.printing import say, show_text
from klock.store import Store

if TYPE_CHECKING:
    from klock.places.pruning import Removed
    from klock.progress import Progress

__all__ = ["cache"]


@click.group(cls=Group)
def cache() -> None:
    """Show and empty the local store of downloads, layers and environments."""


@cache.command(name="dir")
def folder() -> int:
    """Print where the store is."""
    show_text(f"{Store().root}\n")
    return 0


@cache.command()
def prune() -> int:
    """Remove bases and layers that no environment uses, and leftovers in podman and docker. Keeps downloads."""
    from klock.places.pruning import prune as remove

    with _seen("prune the store") as progress:
        removed = remove(Store(), on_wait=_waiting(progress), progress=progress)
    _report(removed)
    return 0


@cache.command()
@click.option("--all", "everything", is_flag=True, help="Also remove what klock may not be able to get again.")
def clean(*, everything: bool) -> int:
    """Remove environments (in podman and docker too), layers, bases and downloads. Keeps environments in use.

    Without --all, klock keeps built wheels, kept layers and downloads that upstream may no longer have: a lockfile may
    need them. `klock vault push` saves them elsewhere.
    """
    from klock.places.pruning import clean as remove
    from klock.words import in_bytes

    store = Store()
    with _seen("clean the store") as progress:
        removed = remove(store, on_wait=_waiting(progress), kept_too=everything, progress=progress)
    _report(removed)
    if kept := store.kept_bytes():
        say(
            f"kept {in_bytes(kept)} that upstream may no longer have; `klock cache clean --all` removes it too",
        )
    return 0


@contextlib.contextmanager
def _seen(task: str) -> Iterator[Progress]:
    """That it goes on is seen on a terminal, and in a log if it takes long."""
    from klock.commands.terminal import progress_on_terminal
    from klock.commands.wishes import wanted

    with progress_on_terminal(quiet=wanted().quiet > 0) as progress:
        progress.begin(task)
        yield progress
        progress.done("done")


def _waiting(progress: Progress) -> Callable[[], None]:
    return lambda: progress.note("waiting for other klock processes to finish")


def _report(removed: Removed) -> None:
    from klock.words import counted, in_bytes

    for place, count in removed.environments.items():
        say(f"{place}: removed {counted(count, 'environment')}")
    for place, count in removed.leftovers.items():
        say(f"{place}: removed {counted(count, 'leftover')}")
    for problem in removed.problems:
        say(f"warning: {problem}; run this again later to remove the rest")
    say(f"freed {in_bytes(removed.bytes)}")
