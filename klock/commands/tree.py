"""`klock tree`: show all that the environment is made of."""

from __future__ import annotations

import json

import click

from klock.commands.options import image_argument, target_option
from klock.printing import show, show_text

__all__ = ["tree"]

_MOST = 12


@click.command()
@image_argument
@target_option
@click.option("--all", "everything", is_flag=True, help="Show all of each list, and all Debian packages.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print the tree.")
def tree(image: str | None, *, target: str | None, everything: bool, form: str) -> int:
    """Show the base, the steps, and what each brings: packages below those that need them, files, variables.

    The size of a step is that of the files it writes; the size of a package or file, of what is fetched or copied.
    """
    from klock.questions import tree as tree_of

    node = tree_of(image, target=target, everything=everything or form == "json")
    if form == "json":
        show_text(json.dumps(node.to_json(), indent=2) + "\n")
        return 0
    for line in node.lines(most=None if everything else _MOST):
        show(line)
    return 0
