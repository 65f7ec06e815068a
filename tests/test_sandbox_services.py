"""Services that end while a command runs: what is told of them, and what is not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from klock.places.sandbox import execution


def forked(task: Callable[[], int]) -> int:
    """The process id of a child that ends with what `task` returns."""
    pid = os.fork()
    if pid == 0:
        os._exit(task())
    return pid


def killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def told(*, service: Callable[[], int], command_goes_on: bool) -> list[int]:
    """The statuses that are told of a service that has ended before its command does."""
    found: list[int] = []
    end, go = os.pipe()
    started: Any = SimpleNamespace(handshake=SimpleNamespace(exit_status=lambda: None))
    name: Any = "service"
    with execution._signals_blocked():
        other = forked(service)
        os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)
        command = forked(lambda: len(os.read(end, 1)))
        if not command_goes_on:
            os.write(go, b"!")

        def note(_: object, status: int) -> None:
            found.append(status)
            os.write(go, b"!")

        execution._wait_and_forward(command, lambda: None, {other: (name, started)}, on_end=note)
        os.waitpid(command, 0)
    os.close(end)
    os.close(go)
    return found


@pytest.mark.parametrize(
    ("service", "command_goes_on", "statuses"),
    [
        (lambda: 3, True, [3]),
        (killed, True, [-9]),
        (killed, False, []),
    ],
    ids=["it failed", "it was killed, and the command goes on", "the command has ended, which kills all"],
)
def test_what_is_told_of_a_service(
    service: Callable[[], int], command_goes_on: bool, statuses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_GOES_ON", 0.1 if command_goes_on else 60.0)
    assert told(service=service, command_goes_on=command_goes_on) == statuses


def test_the_end_of_a_command_is_seen_though_another_thread_took_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks and test runners have threads, and do not block SIGCHLD in them."""
    end, go = os.pipe()
    over, wait_for_signal = threading.Event(), signal.sigtimedwait
    thread = threading.Thread(target=over.wait)
    thread.start()

    def too_late(signals: Any, seconds: float) -> object:
        os.write(go, b"!")
        os.waitid(os.P_PID, command, os.WEXITED | os.WNOWAIT)
        while signal.SIGCHLD in signal.sigpending():
            pass
        return wait_for_signal(signals, seconds)

    monkeypatch.setattr(signal, "sigtimedwait", too_late)
    with execution._signals_blocked():
        command = forked(lambda: len(os.read(end, 1)))
        execution._wait_and_forward(command, lambda: None)
    assert os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]) == 1
    over.set()
    thread.join()
