"""Whom the terminal belongs to after a command in the sandbox."""

from __future__ import annotations

import os
import pty
import signal

import pytest

from klock.places.sandbox.execution import _terminal_kept


def taken_by_another(*, goes: bool) -> bool:
    """Whether klock has the terminal again, after another group of processes took it and, perhaps, went."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
    with _terminal_kept():
        other = os.fork()
        if other == 0:
            signal.pause()
        os.setpgid(other, other)
        os.tcsetpgrp(0, other)
        if goes:
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)
    is_ours = os.tcgetpgrp(0) == os.getpgrp()
    if not goes:
        os.kill(other, signal.SIGKILL)
    return is_ours


@pytest.mark.parametrize("goes", [True, False], ids=["a shell in the environment that went", "the user's own shell"])
def test_the_terminal_is_taken_back_from_nobody_who_is_there(goes: bool) -> None:
    """The user's shell would end: its terminal would look closed. It has the terminal after Ctrl-Z, or with `&`."""
    pid, terminal = pty.fork()
    if pid == 0:
        status = 2
        try:
            status = taken_by_another(goes=goes)
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(ended) == goes
