"""`klock remove`: ask for a Python package no more."""

from __future__ import annotations

import click

from klock.commands.options import image_option, locked_name_argument, offline_option, with_progress
from klock.printing import say
from klock.progress import Progress

__all__ = ["remove"]


@click.command()
@locked_name_argument("projects", verb="remove", nargs=-1, required=True, metavar="PACKAGE...")
@image_option
@offline_option
@with_progress
def remove(projects: tuple[str, ...], *, image: str | None, offline: bool, progress: Progress) -> int:
    """Remove PACKAGE from the image's pip_install and lock.

    Edits the image file only where that is safe. If the edited image cannot be locked, klock restores the file.
    """
    from klock.editing import remove as remove_from

    locked = remove_from(projects, image, offline=offline, progress=progress)
    for line in locked.moved:
        say(line)
    say(f"{locked.path.name} {'written' if locked.written else 'unchanged'}; `klock sync` makes the environment")
    return 0
