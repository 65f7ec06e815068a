"""`klock cache`: the local store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from klock.store import Store

if TYPE_CHECKING:
    from klock.places.containers import ContainerEngine

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
    from klock.workshop import SandboxWorkshop

    store = Store()
    for engine in _container_engines(store):
        _say_removed(engine, engine.remove_leftovers)
    _report(SandboxWorkshop(store).remove_all(keep=store.environment_names()))
    return 0


@cache.command()
@click.option("--all", "everything", is_flag=True, help="Also what upstream may have dropped, or was made here once.")
def clean(*, everything: bool) -> int:
    """Remove environments, on podman and docker too, layers, bases, downloads. What a command runs in just now stays.

    Downloads that upstream may no longer have, built wheels and kept layers stay without --all: a lockfile may need
    them. `klock vault push` saves them somewhere else.
    """
    from klock.words import in_bytes
    from klock.workshop import SandboxWorkshop

    store = Store()
    lasting = []
    for engine in _container_engines(store):
        if not _say_removed(engine, engine.remove_environments):
            lasting += engine.notes
    _report(SandboxWorkshop(store).remove_all(keep=lasting) + store.remove_downloads(kept_too=everything))
    if kept := store.kept_bytes():
        click.echo(
            f"kept {in_bytes(kept)} that may not be had again; `klock cache clean --all` removes it too", err=True
        )
    return 0


def _container_engines(store: Store) -> list[ContainerEngine]:
    """The engines of containers on which the store knows of environments."""
    from klock.places.containers import ContainerEngine

    return [engine for name in ("podman", "docker") if (engine := ContainerEngine(name, store)).is_used]


def _say_removed(engine: ContainerEngine, remove: Callable[[], int]) -> bool:
    """Whether it was done. An engine that does not answer is no reason to leave the store as it is."""
    from klock.errors import EngineError
    from klock.words import counted

    try:
        if removed := remove():
            click.echo(f"{engine.name}: removed {counted(removed, 'leftover')}", err=True)
    except EngineError as error:
        click.echo(f"warning: {error.message}; what klock left there stays, and is noted", err=True)
        return False
    return True


def _report(freed: int) -> None:
    from klock.words import in_bytes

    click.echo(f"freed {in_bytes(freed)}", err=True)
