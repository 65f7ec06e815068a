"""Answers that still come in when the step has ended, and nobody reads them any more.

They are locked whole, so they are worth waiting for; but not for ever. The thread of one that is given up is left
behind: it ends with the recorder's process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from klock.recorder.exchange import PATIENCE, Body

__all__ = ["Download", "wait_for"]

_SLOWEST: Final = 1 << 20
_TOO_SLOW: Final = "its body came in too slowly when the step had ended"
_ENDLESS: Final = "its body, of no announced size, still came in when the step had ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """An answer that is passed on while it comes in, by a thread of its own. `give_up` takes the reason."""

    thread: threading.Thread
    body: Body
    give_up: Callable[[str], None]


def wait_for(downloads: Sequence[Download]) -> None:
    """Returns when each is there or given up: one that may have no end, and one that hardly moves."""
    waiting = list(downloads)
    while waiting:
        before = [download.body.size_so_far for download in waiting]
        deadline = time.monotonic() + PATIENCE
        for download in waiting:
            download.thread.join(max(0.0, deadline - time.monotonic()))
        moving = []
        for download, size in zip(waiting, before, strict=True):
            if not download.thread.is_alive():
                continue
            if download.body.size is None:
                download.give_up(_ENDLESS)
            elif download.body.size_so_far - size < _SLOWEST:
                download.give_up(_TOO_SLOW)
            else:
                moving.append(download)
        waiting = moving
