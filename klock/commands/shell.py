"""`klock shell`: an interactive shell in the environment."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from klock.commands.run_options import RunOptions, run_options
from klock.errors import KlockError

if TYPE_CHECKING:
    from klock.progress import Progress

__all__ = ["prompt_variables", "shell"]

_START: Final = (
    *("/bin/sh", "-c"),
    "if command -v bash >/dev/null 2>&1; then exec bash -i; else exec sh -i; fi",
)
"""The image's bash, or else its sh: what the user's own shell is called says nothing of the image."""


@click.command()
@run_options
def shell(*, image: str | None, how: RunOptions, progress: Progress) -> int:
    """Open a shell in the environment, with its variables, working directory and services. `exit` leaves it.

    The prompt begins with the name of the project. Syncs the environment first, if it does not match the lockfile. In
    the sandbox, what you write stays until the next `klock sync`; in podman and docker, until you leave the shell.
    """
    if not sys.stdin.isatty():
        raise KlockError("klock shell needs a terminal", hint="to run a script: klock run -- sh < SCRIPT")
    project = how.open(image, progress)
    return how.run(project, _START, prompt_variables(project.session.lockfile.parent.name))


def prompt_variables(name: str) -> dict[str, str]:
    """Variables that make a shell's prompt begin with `name`.

    sh takes PS1 from the environment. So does bash, unless a file of the image sets another PS1. Then PROMPT_COMMAND,
    which bash runs before its first prompt, puts the name before that one.

    Shells keep their history in /tmp, which is gone after the shell. A file in the user's home would be drift.
    """
    mark = "".join(c if c.isalnum() or c in "-_." else "_" for c in name) or "klock"
    return {
        "HISTFILE": "/tmp/.bash_history",
        "PYTHON_HISTORY": "/tmp/.python_history",
        "PS1": f"({mark}) $PWD \\$ ",
        "PROMPT_COMMAND": f'[[ $PS1 = "({mark}) "* ]] || PS1="({mark}) $PS1"; export -n PS1; unset PROMPT_COMMAND',
    }
