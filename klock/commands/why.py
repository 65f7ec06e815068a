"""`klock why`: say what brings something into the environment."""

from __future__ import annotations

import json
import os

import click

from klock.commands.options import image_option, locked_name_argument, target_option
from klock.printing import show, show_text

__all__ = ["why"]


@click.command()
@locked_name_argument("name", verb="why")
@image_option
@target_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print reasons.")
def why(name: str, *, image: str | None, target: str | None, form: str) -> int:
    """Say what brings NAME into the environment: which line of the image, through which packages, how large.

    NAME is a Python or Debian package, a path in the environment, a variable, or a part of a URL.
    """
    from klock.questions import why as reasons_for

    # Paths and names of the lockfile are UTF-8, whatever the locale says of arguments.
    name = os.fsencode(name).decode("utf-8", "surrogateescape")
    if not name.strip():
        raise click.UsageError("NAME is empty: name a package, a path, a variable, or a part of a URL")
    reasons = reasons_for(name, image, target=target)
    if form == "json":
        show_text(json.dumps([reason.to_json() for reason in reasons], indent=2) + "\n")
        return 0
    for reason in reasons:
        for line in reason.lines():
            show(line)
    return 0
