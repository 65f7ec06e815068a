"""The terminal of this process: whether there is one that could send signals to a whole group of processes."""

from __future__ import annotations

import os

__all__ = ["has_controlling_terminal"]


def has_controlling_terminal() -> bool:
    """Whether this process belongs to a terminal, as foreground or in the background (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
