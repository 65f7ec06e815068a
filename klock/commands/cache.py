"""`klock cache`: the local store."""

from __future__ import annotations

import click

from klock.store import Store

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
    """Remove bases and layers that no environment is made of. Downloads stay."""
    from klock.engines.sandbox import SandboxEngine

    store = Store()
    _report(SandboxEngine(store).remove_all(keep=store.environment_names()))
    return 0


@cache.command()
@click.option("--all", "everything", is_flag=True, help="Also what upstream may have dropped, or was made here once.")
def clean(*, everything: bool) -> int:
    """Remove environments, layers, bases, downloads. What a command runs in just now stays.

    Downloads that upstream may no longer have, built wheels and kept layers stay without --all: a lockfile may need
    them. `klock vault push` saves them somewhere else.
    """
    from klock.engines.sandbox import SandboxEngine
    from klock.plan import in_bytes

    store = Store()
    _report(SandboxEngine(store).remove_all() + store.remove_downloads(kept_too=everything))
    if kept := store.kept_bytes():
        click.echo(
            f"kept {in_bytes(kept)} that may not be had again; `klock cache clean --all` removes it too", err=True
        )
    return 0


def _report(freed: int) -> None:
    from klock.plan import in_bytes

    click.echo(f"freed {in_bytes(freed)}", err=True)
