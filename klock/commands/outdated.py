"""`klock outdated`: say what has a newer version."""

from __future__ import annotations

import json

import click

from klock.commands.options import image_argument, open_project, timeout_option, with_progress
from klock.printing import say, say_note, show, show_text
from klock.progress import Progress

__all__ = ["outdated"]


@click.command()
@image_argument
@timeout_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print versions.")
@with_progress
def outdated(image: str | None, *, timeout: float, form: str, progress: Progress) -> int:
    """Say what has a newer version: Python and Debian packages, the base. Changes nothing.

    Shows the locked version, the newest that the image admits (which `klock lock --upgrade` takes), and the newest of
    all.
    """
    project = open_project(image, progress=progress)
    found = project.outdated(seconds=timeout)
    for note in found.notes:
        say_note(note)
    if form == "json":
        show_text(json.dumps(found.to_json(), indent=2) + "\n")
        return 0
    for line in found.lines():
        show(line)
    say(found.summary)
    return 0
