"""What asks klock to end, and the processes that it has forked: SIGTERM, and a terminal that sends to all of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn

import pytest

from klock.errors import KlockError
from klock.forks import in_fork
from klock.recorder.process import run_recorder
from klock.store import Store
from klock.workshop.signals import end_at_once


@pytest.mark.usefixtures("usual_signals")
def test_a_child_ends_where_klock_would_clear_up_and_ignores_what_klock_ignores() -> None:
    def child() -> list[object]:
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        end_at_once()
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    assert in_fork(child) == [signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN]


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_recorder_outlives_the_terminal_until_the_step_has_ended(number: signal.Signals, tmp_path: Path) -> None:
    def make_source(folder: Path) -> NoReturn:
        os.kill(os.getpid(), number)
        raise KlockError("it went on")

    with run_recorder(make_source, ports=[], store=Store(tmp_path)) as recorder, pytest.raises(KlockError) as told:
        recorder.finish()
    assert told.value.message == "it went on"
