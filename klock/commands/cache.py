"""`klock cache`: the local store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from klock.commands.groups import Group
from klock.printing import say, show_text
from klock.store import Store

if TYPE_CHECKING:
    from klock.places.pruning import Removed

__all__ = ["cache"]


@click.group(cls=Group)
def cache() -> None:
    """Look after the local store, where klock keeps downloads, layers and environments."""


@cache.command(name="dir")
def folder() -> int:
    """Print where the store is."""
    show_text(f"{Store().root}\n")
    return 0


@cache.command()
def prune() -> int:
    """Remove bases and layers that no environment uses, and leftovers in podman and docker. Keeps downloads."""
    from klock.places.pruning import prune as remove

    _report(remove(Store(), on_wait=_say_that_others_work))
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
    _report(remove(store, on_wait=_say_that_others_work, kept_too=everything))
    if kept := store.kept_bytes():
        say(
            f"kept {in_bytes(kept)} that upstream may no longer have; `klock cache clean --all` removes it too",
        )
    return 0


def _say_that_others_work() -> None:
    say("waiting for other klock processes to finish")


def _report(removed: Removed) -> None:
    from klock.words import counted, in_bytes

    for place, count in removed.environments.items():
        say(f"{place}: removed {counted(count, 'environment')}")
    for place, count in removed.leftovers.items():
        say(f"{place}: removed {counted(count, 'leftover')}")
    for problem in removed.problems:
        say(f"warning: {problem}; run this again later to remove the rest")
    say(f"freed {in_bytes(removed.bytes)}")
