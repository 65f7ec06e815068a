"""`klock sync`: make the environment be what the lockfile says."""

from __future__ import annotations

import click

from klock.commands.options import (
    engine_option,
    frozen_option,
    gpus_option,
    image_argument,
    offline_option,
    open_project,
    target_option,
    with_progress,
)
from klock.commands.quick import look_before_sync, remember_sync
from klock.printing import say, show
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
    from klock.api import refuse_if_unable
    from klock.outcomes import as_is
    from klock.places import converges

    project = open_project(image, offline=offline, progress=progress, engine=engine)
    if force and not converges(project.session.named_place):
        raise click.UsageError("--force needs --here: klock makes other environments anew")
    lockfile = project.session.read_lockfile()
    goal, place = project.goal_and_place(lockfile, target, frozen=frozen)
    refuse_if_unable(goal.lock, gpus)
    if dry_run:
        actions = place.plan(goal).actions
        for line in [str(action) for action in actions] or ["nothing to do"]:
            show(line)
        return 0
    looked_at = look_before_sync(project.session, lockfile, goal, place)
    say(str(project.apply(goal, place, force=force)))
    if looked_at is not None:
        remember_sync(looked_at, str(as_is(goal, place)), project.session, goal, place)
    return 0
