"""`klock diff`: say what changed between two lockfiles, as a person would."""

from __future__ import annotations

import json

import click

from klock.commands.options import engine_option, image_option, open_project, target_option
from klock.printing import say, show, show_text

__all__ = ["diff"]


@click.command()
@click.argument("before", required=False, metavar="[A]")
@click.argument("after", required=False, metavar="[B]")
@click.option("--env", "environment", is_flag=True, help="Compare the environment with the lockfile.")
@image_option
@target_option
@engine_option
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", help="How to print changes."
)
def diff(
    before: str | None,
    after: str | None,
    *,
    environment: bool,
    image: str | None,
    target: str | None,
    engine: str | None,
    form: str,
) -> int:
    """Say what changed from A to B: packages, files, variables, the base.

    A and B are lockfiles or revisions of git. Default for A: the last commit; for B: the lockfile as it is now. With
    --env it says what `klock sync` would change.
    """
    from klock.inventory.words import as_markdown, as_text, summary
    from klock.questions import diff as difference_of
    from klock.questions import diff_environment

    if environment:
        if before is not None:
            raise click.UsageError("--env compares the environment with the lockfile: name neither A nor B")
        difference = diff_environment(open_project(image, engine=engine), target=target)
    elif engine is not None or target is not None:
        raise click.UsageError("--engine and --target go with --env")
    else:
        difference = difference_of(before, after, image=image)
    if form == "json":
        show_text(json.dumps(difference.to_json(), indent=2) + "\n")
        return 0
    for line in as_text(difference) if form == "text" else as_markdown(difference):
        show(line)
    if form == "text":
        say(summary(difference))
    return 0
