"""Processes that share the machine's process ids, where no process namespace ends them with the command.

The process that starts them becomes the parent of all that they leave behind, and ends it. It outlives klock for that.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from klock.workshop import linux

__all__ = ["adopt_descendants", "end_descendants"]


def adopt_descendants() -> None:
    """Makes this process the one that ends what its children leave behind.

    When klock is killed the kernel would kill this process too: from now on it gets SIGCHLD instead, and has to look
    whether its parent is another one.
    """
    linux.adopt_orphans()
    linux.hear_of_parents_end(signal.SIGCHLD)


def end_descendants() -> None:
    """Kills every process below this one, however it detached itself, and reaps it."""
    # The children of a killed child become this process's own. Only its own children are signalled: until they are
    # reaped, their ids are no other process's.
    while True:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    own = os.getpid()
    return [int(word) for word in Path(f"/proc/{own}/task/{own}/children").read_text("ascii").split()]
