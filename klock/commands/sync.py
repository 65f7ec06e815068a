"""`klock sync`: make the environment be what the lockfile says."""

from __future__ import annotations

import click

from klock.commands.options import (
    engine_option,
    frozen_option,
    gpus_option,
    image_argument,
    offline_option,
    target_option,
    with_progress,
)
from klock.commands.syncing import ForceElsewhere, sync_image
from klock.progress import Progress

__all__ = ["sync"]


@click.command()
@image_argument
@target_option
@engine_option
@gpus_option
@click.option("--dry-run", is_flag=True, help="Print the plan, do nothing.")
@click.option("--force", is_flag=True, help="With --here: run the locked steps even if old ones cannot be taken back.")
@frozen_option
@offline_option
@with_progress
def sync(
    image: str | None,
    *,
    target: str | None,
    engine: str | None,
    gpus: str | None,
    dry_run: bool,
    force: bool,
    frozen: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Make the environment match the lockfile, byte for byte.

    Runs only the steps that have not made their locked layer on this machine. Undoes changes made in the environment
    since the last sync. Refuses a stale lockfile.
    """
    try:
        return sync_image(
            image,
            target=target,
            engine=engine,
            gpus=gpus,
            dry_run=dry_run,
            force=force,
            frozen=frozen,
            offline=offline,
            progress=progress,
        )
    except ForceElsewhere as error:
        raise click.UsageError(str(error)) from error
