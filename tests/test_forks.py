"""What several processes do, counted by the one that waits for them."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from klock.beside import Beside
from klock.errors import EngineError, HashMismatch
from klock.fetching.transport import shared_transport
from klock.forks import Tally, in_fork, map_in_forks, written_to
from klock.progress import QUIET


@pytest.mark.parametrize("cores", [{0}, {0, 1, 2}], ids=["one process", "three"])
def test_what_is_done_is_counted(cores: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    tally = Tally("wheels", 8, parts=8)
    assert tally() == "0 of 8 wheels"

    def work(number: int) -> int:
        if number % 2:
            tally.add(part=number)
        return number * number

    assert map_in_forks(work, range(8), cost=lambda _: 1) == [number * number for number in range(8)]
    assert tally() == "4 of 8 wheels"


def test_how_many_there_are_may_be_found_out_by_who_does_the_work() -> None:
    tally = Tally("bytes")
    assert tally() == ""

    def work() -> None:
        tally.expect(2_000_000)
        tally.add(1_500_000)

    in_fork(work)
    assert tally() == "1.5 MB of 2.0 MB"


def test_how_far_another_process_writes_a_file(tmp_path: Path) -> None:
    how_far = written_to(tmp_path / "archive")
    assert how_far() == ""
    in_fork(lambda: (tmp_path / "archive").write_bytes(bytes(1200)))
    assert how_far() == "1.2 kB"


class OfAFile(Exception):
    """As libraries have them: with what no other process can be given, or made in a way that pickle cannot repeat."""

    def __init__(self, *, holds: object) -> None:
        super().__init__("not a wheel")
        self.holds = holds


def in_fork_of_several(task: Callable[[], None]) -> None:
    map_in_forks(lambda _: task(), range(2), cost=lambda _: 1)


def beside(task: Callable[[], None]) -> None:
    with Beside(lambda _: task(), QUIET) as process:
        process.result()


@pytest.mark.parametrize("run", [in_fork, in_fork_of_several, beside])
@pytest.mark.parametrize("holds", ["a file", "text"])
def test_an_error_that_cannot_be_pickled_is_told_and_ends_the_child(
    run: Callable[[Callable[[], None]], None], holds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    parent = os.getpid()

    def task() -> None:
        with tempfile.TemporaryFile() as file:
            raise OfAFile(holds=file if holds == "a file" else holds)

    try:
        with pytest.raises(EngineError, match=r"^a process of klock failed: OfAFile: not a wheel(\n|$)"):
            run(task)
    finally:
        if os.getpid() != parent:
            os._exit(1)  # a child that got here would go on as the test


def test_an_error_of_klock_is_the_same_in_the_parent() -> None:
    def task() -> None:
        raise HashMismatch("other bytes", hint="look")

    with pytest.raises(HashMismatch) as raised:
        in_fork(task)
    assert (raised.value.message, raised.value.hint) == ("other bytes", "look")


def test_a_child_takes_no_connection_of_its_parent() -> None:
    """Each would read what is for the other."""
    ours = shared_transport(None)
    assert shared_transport(None) is ours
    assert not in_fork(lambda: shared_transport(None) is ours)


def test_processes_may_wait_for_what_comes_meanwhile(tmp_path: Path) -> None:
    def read(name: str) -> bytes:
        while not (tmp_path / name).exists():
            time.sleep(0.001)
        return (tmp_path / name).read_bytes()

    def bring() -> None:
        for name in "ba":
            (tmp_path / "draft").write_bytes(name.encode())
            (tmp_path / "draft").rename(tmp_path / name)

    assert map_in_forks(read, ["a", "b"], cost=len, meanwhile=bring) == [b"a", b"b"]
    assert map_in_forks(read, ["a"], cost=len, meanwhile=bring) == [b"a"]


@pytest.mark.parametrize("error", [HashMismatch("x"), KeyboardInterrupt()])
def test_processes_end_when_what_they_wait_for_does_not_come(error: BaseException, tmp_path: Path) -> None:
    def work(_: int) -> None:
        time.sleep(2)
        (tmp_path / "worked").touch()

    def fail() -> None:
        raise error

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(type(error)):
            map_in_forks(work, [1, 2], cost=lambda _: 1, meanwhile=fail)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "worked").exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_processes_end_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    fork = os.fork

    def fork_once() -> int:
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(fork())
        return started[0]

    monkeypatch.setattr(os, "fork", fork_once)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(BlockingIOError):
        map_in_forks(lambda _: time.sleep(5), [1, 2], cost=lambda _: 1)
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)
