"""The verbs of the command line, and what `klock --help` and `klock --version` print.

Both are asked before anything else is known, so nothing is imported here: who asks waits for little more than Python.
"""

import os

__all__ = ["VERBS", "answer_to", "overview"]

VERBS = {
    "init": "Write a first kimage.py into FOLDER, from what it has.",
    "lock": "Resolve the image and write the lockfile beside it.",
    "sync": "Make the environment match the lockfile, byte for byte.",
    "run": "Run COMMAND in the environment, with its variables, working...",
    "shell": "Open a shell in the environment, with its variables,...",
    "check": "Say where image, lockfile and environment no longer agree.",
    "status": "Say what is here: image, lockfile and environments, and...",
    "diff": "Say what changed from A to B: packages, files, variables,...",
    "outdated": "Say what has a newer version: Python and Debian packages,...",
    "why": "Say what brings NAME into the environment: which line of...",
    "tree": "Show the base, the steps, and what each brings: packages...",
    "add": "Add PACKAGE to the image's pip_install and lock; a PACKAGE...",
    "remove": "Remove PACKAGE from the image's pip_install and lock.",
    "logs": "Show what steps printed when they last ran here, and what...",
    "push": "Push the locked image to a registry, with no container engine.",
    "pull": "Fetch what `klock push` left in a registry, so that a sync...",
    "export": "Write what is locked in the formats of other tools.",
    "fleet": "Compare the copies of an environment that run in a cluster.",
    "kernel": "Have Jupyter run notebooks in the locked environment.",
    "cache": "Show and empty the local store of downloads, layers and...",
    "vault": "Keep every byte the lockfile names in a folder, and get it...",
    "sign": "Sign the lockfile as it is; the signature is written beside...",
    "verify": "Say whether a trusted key signed the lockfile as it is now;...",
    "merge-driver": "Merge lockfiles of two branches for git; --install has git...",
    "man": "Print the manual page, for `klock man | man -l -`.",
    "completion": "Print the completion of commands and options for SHELL.",
}
"""In the order of the overview, with the first words of each verb's own help."""

_HEAD = """\
Usage: klock [OPTIONS] COMMAND [ARGS]...

  Reproducible environments for Python in containers, from an image definition
  and a lockfile.

Options:
  --version      Print it.
  -q, --quiet    Show no progress.
  -v, --verbose  Show what steps print, and where the time goes; -vv more.
  -h, --help     Show this message and exit.

Commands:
"""
_WIDTH = 80
"""Columns. A narrower terminal needs the lines broken elsewhere."""


def answer_to(arguments: list[str]) -> str | None:
    """What a command line is answered with that asks what klock is; None for any other."""
    if arguments == ["--version"]:
        from klock.version import __version__

        return f"klock {__version__}\n"
    return overview() if arguments in (["--help"], ["-h"]) and _columns() >= _WIDTH else None


def overview() -> str:
    """What `klock --help` prints."""
    width = max(map(len, VERBS))
    return _HEAD + "".join(f"  {name:{width}}  {text}\n" for name, text in VERBS.items())


def _columns() -> int:
    """As `shutil.get_terminal_size` has it."""
    try:
        return int(os.environ["COLUMNS"]) or _WIDTH
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(1).columns or _WIDTH
    except (AttributeError, ValueError, OSError):
        return _WIDTH
