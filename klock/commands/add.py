"""`klock add`: ask for another Python package."""

from __future__ import annotations

import click

from klock.commands.options import image_option, offline_option, with_progress
from klock.printing import say
from klock.progress import Progress

__all__ = ["add"]


@click.command()
@click.argument("requirements", nargs=-1, required=True, metavar="PACKAGE...")
@image_option
@offline_option
@with_progress
def add(requirements: tuple[str, ...], *, image: str | None, offline: bool, progress: Progress) -> int:
    """Add PACKAGE to the image's pip_install and lock; a PACKAGE that is there gets the new version range.

    PACKAGE is a requirement such as numpy or "numpy>=1.24". Edits the image file only where that is safe, and says
    which line to write where it is not. If the edited image cannot be locked, klock restores the file.
    """
    from klock.editing import add as add_to

    locked = add_to(requirements, image, offline=offline, progress=progress)
    for line in locked.moved:
        say(line)
    say(f"{locked.path.name} {'written' if locked.written else 'unchanged'}; `klock sync` makes the environment")
    return 0
