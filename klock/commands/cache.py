"""`klock cache`: the local store."""

from __future__ import annotations

import click

from klock.store import Store

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """The local store. Nothing in it is precious: all of it can be made again."""


@cache.command(name="dir")
def folder() -> int:
    """Print where the store is."""
    click.echo(str(Store().root))
    return 0
