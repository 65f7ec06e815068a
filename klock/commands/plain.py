"""Reads short command lines without click, whose import takes a tenth of a quick sync's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

__all__ = ["plain_sync"]

_QUIET = ("-q", "--quiet")
_FLAGS = ("--frozen", "--offline")


def plain_sync(arguments: Sequence[str]) -> Callable[[], int] | None:
    """A call that runs `klock sync` with at most one file, and no options but these flags; None for any other line."""
    if not arguments or arguments[0] != "sync":
        return None
    words = [word for word in arguments[1:] if word.startswith("-")]
    files = [word for word in arguments[1:] if not word.startswith("-")]
    if len(files) > 1 or not {*words} <= {*_QUIET, *_FLAGS}:
        return None
    quiet = sum(word in _QUIET for word in words)
    return partial(_sync, *files, quiet=quiet, frozen="--frozen" in words, offline="--offline" in words)


def _sync(image: str | None = None, *, quiet: int, frozen: bool, offline: bool) -> int:
    from klock.commands.syncing import sync_image
    from klock.commands.terminal import progress_on_stderr
    from klock.commands.wishes import wanted
    from klock.printing import say

    wanted().quiet += quiet
    try:
        with progress_on_stderr(quiet=quiet > 0, verbose=False) as progress:
            return sync_image(image, frozen=frozen, offline=offline, progress=progress)
    except KeyboardInterrupt:
        say("")  # as click does: the terminal has shown ^C
        raise
