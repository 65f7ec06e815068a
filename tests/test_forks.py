"""What several processes do, counted by the one that waits for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from klock.forks import Tally, in_fork, map_in_forks, written_to


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
