"""Watches what this process reads, by Python's audit events (PEP 578): what a stat can vouch for later."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

from klock import tree_stats
from klock.values import dataclass, field

__all__ = ["Seen", "seen", "watch"]

_LISTS: Final = ("os.listdir", "os.scandir")
_GIVEN: Final = (0, 1, 2)
_BEYOND: Final = ("os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.", "subprocess.")
"""Beginnings of the events after which an answer may rest on more than files."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a process with these `arguments` has read since `started` (nanoseconds of the wall clock): `paths` as they
    were named, absolute. `is_all`: nothing else had a part in it; if something had, nothing more is noted."""

    arguments: list[str]
    started: int = field(default_factory=time.time_ns)
    paths: set[str] = field(default_factory=set)
    is_all: bool = True


_watched: Seen | None = None
"""One for the process, as audit hooks cannot be taken away."""


def watch(arguments: list[str]) -> None:
    """Begins to watch, for the rest of the process."""
    global _watched  # noqa: PLW0603
    _watched = Seen(arguments=list(arguments))
    sys.addaudithook(_hook)


def seen() -> Seen | None:
    """What was read so far, and no more from now on; None when nobody watched, or it was asked for before."""
    global _watched
    found, _watched = _watched, None
    return found


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    # A child process has the hook too, perhaps in another root. It was forked, which ended the watch for both.
    if _watched is None or not _watched.is_all:
        return
    if event == "open":
        path, _, flags = arguments
        if flags & os.O_ACCMODE != os.O_WRONLY:
            _note(_watched, path)
    elif event in _LISTS:
        _note(_watched, arguments[0])
    elif event.startswith(_BEYOND) and not tree_stats.is_looking:
        _watched.is_all = False


def _note(watched: Seen, path: object) -> None:
    """A descriptor was opened before under its name, but for those that a process is given."""
    if path is None:
        path = "."
    if isinstance(path, int) and path in _GIVEN:
        watched.is_all = False
    if isinstance(path, str | bytes):
        name = os.fsdecode(path)
        try:
            watched.paths.add(name if os.path.isabs(name) else os.path.join(os.getcwd(), name))
        except OSError:  # of a folder that somebody removed
            watched.is_all = False
