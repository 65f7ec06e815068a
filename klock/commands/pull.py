"""`klock pull`: what a sync needs, from an image in a registry."""

from __future__ import annotations

import click

from klock.commands.options import image_argument, open_project, target_option, with_progress
from klock.printing import say
from klock.progress import Progress

__all__ = ["pull"]


@click.command()
@click.argument("reference", metavar="REGISTRY/NAME:TAG")
@image_argument
@target_option
@with_progress
def pull(reference: str, image: str | None, *, target: str | None, progress: Progress) -> int:
    """Fetch what `klock push` left in a registry, so that a sync makes the environment without any other server.

    Takes a layer only if its files are the locked ones, so you need not trust the registry.
    """
    from klock.oci.reference import Reference
    from klock.oci.writing import open_repository
    from klock.registry.pull import pull_image

    named = Reference.parse_in_registry(reference)
    session = open_project(image, progress=progress).session
    lock = session.read_lockfile()
    goal = session.goal(lock, session.locked_target(lock, target))
    repository = open_repository(named, mirrors=session.context.mirrors, actions="pull")
    with session.store.in_use():
        pulled = pull_image(goal.lock, repository, session.context, keys=goal.cache_keys)
    say(f"{repository.name} pulled: {pulled}")
    return 0
