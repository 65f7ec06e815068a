"""`klock cache`: the local store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from klock.store import Store

if TYPE_CHECKING:
    from klock.places.pruning import Removed

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """Look after the local store. What upstream may drop is kept in it; all the rest can be made again."""


@cache.command(name="dir")
def folder() -> int:
    """Print where the store is."""
    click.echo(str(Store().root))
    return 0


@cache.command()
def prune() -> int:
    """Remove bases and layers that no environment is made of, and what podman and docker have left. Downloads stay."""
    from klock.places.pruning import prune as remove

    _report(remove(Store()))
    return 0


@cache.command()
@click.option("--all", "everything", is_flag=True, help="Also what upstream may have dropped, or was made here once.")
def clean(*, everything: bool) -> int:
    """Remove environments, on podman and docker too, layers, bases, downloads. What a command runs in just now stays.

    Downloads that upstream may no longer have, built wheels and kept layers stay without --all: a lockfile may need
    them. `klock vault push` saves them somewhere else.
    """
    from klock.places.pruning import clean as remove
    from klock.words import in_bytes

    store = Store()
    _report(remove(store, kept_too=everything))
    if kept := store.kept_bytes():
        click.echo(
            f"kept {in_bytes(kept)} that may not be had again; `klock cache clean --all` removes it too", err=True
        )
    return 0


def _report(removed: Removed) -> None:
    from klock.words import counted, in_bytes

    for place, count in removed.environments.items():
        click.echo(f"{place}: removed {counted(count, 'environment')}", err=True)
    for place, count in removed.leftovers.items():
        click.echo(f"{place}: removed {counted(count, 'leftover')}", err=True)
    for problem in removed.problems:
        click.echo(f"warning: {problem}; what klock left there stays, and is noted", err=True)
    click.echo(f"freed {in_bytes(removed.bytes)}", err=True)
