"""`klock status`: say what is here."""

from __future__ import annotations

import json

import click

from klock.commands.options import image_argument, open_project
from klock.printing import show, show_text

__all__ = ["status"]


@click.command()
@image_argument
@click.option("--all", "everything", is_flag=True, help="All environments in the store, and what takes space there.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
def status(image: str | None, *, everything: bool, form: str) -> int:
    """Say what is here: image, lockfile and environments, and whether they agree.

    Makes only quick checks: `klock check --env` says where an environment was changed.
    """
    if everything:
        if image is not None:
            raise click.UsageError("--all is about the whole store: name no image")
        from klock.questions import status_of_store

        found = status_of_store()
        document, lines = found.to_json(), found.lines()
    else:
        here = open_project(image).status()
        document, lines = here.to_json(), here.lines()
    if form == "json":
        show_text(json.dumps(document, indent=2) + "\n")
        return 0
    for line in lines:
        show(line)
    return 0
