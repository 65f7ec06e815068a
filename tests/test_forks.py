"""What several processes do, counted by the one that waits for them."""

from __future__ import annotations

import os

import pytest

from klock.forks import Tally, map_in_forks


@pytest.mark.parametrize("cores", [{0}, {0, 1, 2}], ids=["one process", "three"])
def test_what_is_done_is_counted(cores: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    tally = Tally(8)
    assert tally() == "0 done"

    def work(number: int) -> int:
        if number % 2:
            tally.add(number)
            tally.add(number)  # once more is not twice
        return number * number

    assert map_in_forks(work, range(8), cost=lambda _: 1) == [number * number for number in range(8)]
    assert tally() == "4 done"


def test_nothing_may_be_counted() -> None:
    assert Tally(0)() == "0 done"
