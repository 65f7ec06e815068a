"""What asks klock to end, as the processes that it forks take it."""

from __future__ import annotations

import signal
from typing import Final

__all__ = ["end_at_once"]

_ASKING_TO_END: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_at_once() -> None:
    """Has such a signal end this process where it is: what is to be put right is put right by its parent, which gets
    the signal, too. What is ignored stays so, as SIGHUP is under nohup."""
    for number in _ASKING_TO_END:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
