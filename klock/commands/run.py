"""`klock run`: run a command in the environment."""

from __future__ import annotations

import click

from klock.commands.run_options import RunOptions, run_options
from klock.progress import Progress

__all__ = ["run"]


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@run_options
def run(command: tuple[str, ...], *, image: str | None, how: RunOptions, progress: Progress) -> int:
    """Run COMMAND in the environment, with its variables, working directory and services. Exits with COMMAND's status.

    Without COMMAND it runs the image's own: ENTRYPOINT and CMD. Syncs the environment first, if it does not match the
    lockfile. Write `--` before a command that has options.
    """
    return how.run(how.open(image, progress), command)
