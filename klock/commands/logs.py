"""`klock logs`: what steps and services printed."""

from __future__ import annotations

import click

from klock.commands.options import image_argument, open_project
from klock.printing import say, show_text

__all__ = ["logs"]


@click.command()
@image_argument
@click.option("--services", is_flag=True, help="Only what services printed.")
@click.option("--steps", is_flag=True, help="Only what steps printed.")
def logs(image: str | None, *, services: bool, steps: bool) -> int:
    """Show what steps printed when they last ran here, and what services printed beside the last command.

    Steps print when klock makes their layers: in `klock lock`, and in a `klock sync` that has to make them again. On
    podman and docker the services' log is there when the command beside them has ended.
    """
    from klock.escaping import ForeignText
    from klock.questions import logs_of

    found = logs_of(open_project(image))
    both = services == steps
    texts = [log.text for log in found if both or (services if log.of_services else steps)]
    if not texts:
        say("nothing was printed yet")
    for text in texts:
        shown = ForeignText()
        show_text(shown.feed(text) + shown.end())
    return 0
