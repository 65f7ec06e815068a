"""Functions in processes beside this one: what they tell, that they end, and going on while a step is proven."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from klock.beside import Beside, first_to_end, pass_on
from klock.errors import KlockError, StepFailed
from klock.locking.ahead import prove_beside
from klock.progress import Progress, Quiet
from klock.steps.context import Context
from tests.memory_workshop import memory_context

LONG = 60.0


class Told(Quiet):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self.calls.append(f"begin {task} {total}")

    def output(self, text: bytes) -> None:
        self.calls.append(f"output {len(text)}")

    def done(self, result: str) -> None:
        self.calls.append(f"done {result}")

    def warn(self, message: str) -> None:
        self.calls.append(f"warn {message}")


def until_over(beside: Beside[Any], told: Progress) -> None:
    first_to_end([beside], lambda _, report: pass_on([report], told))


def test_signals_wait_until_the_process_has_somebody_who_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    fork, blocked = os.fork, list[set[Any]]()

    def noted_fork() -> int:
        blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return fork()

    monkeypatch.setattr(os, "fork", noted_fork)
    with Beside(lambda _: signal.pthread_sigmask(signal.SIG_BLOCK, ()), Quiet()) as beside:
        until_over(beside, Quiet())
        afterwards = [beside.result(), signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    assert asking <= blocked[0]
    assert not any(asking & mask for mask in afterwards)


def test_what_it_tells_and_returns_arrives_whole_and_in_order() -> None:
    def task(progress: Progress) -> bytes:
        progress.begin("a task", total=3)
        progress.output(b"x" * 40_000)
        progress.warn("w" * 100_000)
        progress.done("well")
        return b"result" * 100_000

    told = Told()
    with Beside(task, Quiet()) as beside:
        until_over(beside, told)
        assert beside.result() == b"result" * 100_000
    begun, *outputs, warned, done = told.calls
    assert (begun, done) == ("begin a task 3", "done well")
    assert sum(int(call.removeprefix("output ")) for call in outputs) == 40_000
    assert warned.startswith("warn www")


def test_what_it_raises_is_raised_here() -> None:
    def task(progress: Progress) -> None:
        raise StepFailed("it failed", hint="fix it")

    with Beside(task, Quiet()) as beside:
        until_over(beside, Quiet())
        with pytest.raises(StepFailed, match="it failed") as raised:
            beside.result()
    assert raised.value.hint == "fix it"


def test_one_that_is_ended_clears_up_and_so_does_what_it_started(tmp_path: Path) -> None:
    def inner(progress: Progress) -> None:
        try:
            (tmp_path / "inner").touch()
            time.sleep(LONG)
        finally:
            (tmp_path / "inner").unlink()

    def outer(progress: Progress) -> None:
        (tmp_path / "outer").touch()
        try:
            with Beside(inner, progress) as beside:
                until_over(beside, Quiet())
        finally:
            (tmp_path / "outer").unlink()

    with Beside(outer, Quiet()) as beside:
        while not (tmp_path / "inner").exists():
            assert not beside.is_over()
        pid = beside.pid
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# -- a step is proven while the next ones are made


def context_of(folder: Path, progress: Progress) -> Context:
    return dataclasses.replace(memory_context(folder), progress=progress)


def test_going_on_counts_when_the_proof_is_there(tmp_path: Path) -> None:
    def prove(context: Context) -> None:
        context.progress.begin("nobody sees this")
        context.progress.warn("but this")

    def go_on(context: Context, proofs: Sequence[int]) -> str:
        assert len(proofs) == 1
        context.progress.begin("the next step")
        return prove_beside(prove, lambda _, proofs: f"{len(proofs)} proofs", context, earlier=proofs)

    told = Told()
    assert prove_beside(prove, go_on, context_of(tmp_path, told)) == "2 proofs"
    assert sorted(told.calls) == ["begin the next step None", "warn but this", "warn but this"]


def test_a_failed_proof_ends_what_goes_on(tmp_path: Path) -> None:
    def prove(context: Context) -> None:
        while not (tmp_path / "goes on").exists():
            time.sleep(0.01)
        raise StepFailed("it made something else")

    def go_on(context: Context, proofs: Sequence[int]) -> None:
        try:
            (tmp_path / "goes on").touch()
            time.sleep(LONG)
        finally:
            (tmp_path / "goes on").unlink()

    started = time.monotonic()
    with pytest.raises(StepFailed, match="it made something else"):
        prove_beside(prove, go_on, context_of(tmp_path, Quiet()))
    assert time.monotonic() - started < LONG / 2
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_the_earlier_step_is_the_one_that_is_told(tmp_path: Path) -> None:
    def prove(context: Context) -> None:
        while not (tmp_path / "failed").exists():
            time.sleep(0.01)
        raise StepFailed("the first")

    def go_on(context: Context, proofs: Sequence[int]) -> None:
        (tmp_path / "failed").touch()
        raise KlockError("the second")

    with pytest.raises(StepFailed, match="the first"):
        prove_beside(prove, go_on, context_of(tmp_path, Quiet()))


def test_the_error_of_a_later_step_is_told_when_the_earlier_one_is_proven(tmp_path: Path) -> None:
    def go_on(context: Context, proofs: Sequence[int]) -> None:
        raise KlockError("the second")

    with pytest.raises(KlockError, match="the second"):
        prove_beside(lambda context: time.sleep(0.1), go_on, context_of(tmp_path, Quiet()))
