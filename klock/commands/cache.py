"""`klock cache`: the local store."""

from __future__ import annotations

import click

from klock.store import Store

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """Look after the local store. Nothing in it is precious: all of it can be made again."""


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
def clean() -> int:
    """Remove everything: environments, layers, bases, downloads. What a command runs in just now stays."""
    from klock.engines.sandbox import SandboxEngine

    store = Store()
    _report(SandboxEngine(store).remove_all() + store.remove_downloads())
    return 0


def _report(freed: int) -> None:
    from klock.plan import in_bytes

    click.echo(f"freed {in_bytes(freed)}", err=True)
