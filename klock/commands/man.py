"""`klock man`: the manual page."""

from __future__ import annotations

import click

from klock.printing import show_text

__all__ = ["man"]


@click.command()
def man() -> int:
    """Print the manual page, for `klock man | man -l -`.

    To install it: klock man > ~/.local/share/man/man1/klock.1
    """
    from klock.commands.line import klock
    from klock.manual import manual
    from klock.version import __version__

    show_text(manual(klock, version=__version__))
    return 0
