"""`klock diff`: say what changed between two lockfiles, as a person would."""

from __future__ import annotations

import json

import click

from klock.commands.printing import say, show, show_text

__all__ = ["diff"]


@click.command()
@click.argument("before", required=False, metavar="[A]")
@click.argument("after", required=False, metavar="[B]")
@click.option("--image", metavar="FILE[:NAME]", help="The image. Default: kimage.py.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", help="How to print changes."
)
def diff(before: str | None, after: str | None, *, image: str | None, form: str) -> int:
    """Say what changed from A to B: packages, files, variables, the base.

    A and B are lockfiles or revisions of git. Default for A: the last commit; for B: the lockfile as it is now.
    """
    from klock.inventory.words import as_markdown, as_text, summary
    from klock.questions import diff as difference_of

    difference = difference_of(before, after, image=image)
    if form == "json":
        show_text(json.dumps(difference.to_json(), indent=2) + "\n")
        return 0
    for line in as_text(difference) if form == "text" else as_markdown(difference):
        show(line)
    if form == "text":
        say(summary(difference))
    return 0
