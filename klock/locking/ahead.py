"""Going on while a step is proven: its second run, and the steps after it, side by side.

The steps after it are made on the layer of its first run. They count if the second run made the same, and are ended
where they are if it did not. Whichever ends first, the outcome is that of doing one after the other.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from klock.beside import Beside, WarningsOnly, first_to_end, pass_on
from klock.progress import Progress
from klock.steps.context import Context

__all__ = ["prove_beside"]

T = TypeVar("T")


def prove_beside(
    prove: Callable[[Context], None],
    go_on: Callable[[Context, Sequence[int]], T],
    context: Context,
    *,
    earlier: Sequence[int] = (),
    name: str = "",
) -> T:
    """What `go_on` returns. An error of `prove` is raised before one of `go_on`.

    `earlier` are file descriptors of processes (pidfd_open(2)) that prove earlier steps; `go_on` gets them with the new
    one. Of the proof nothing is told but its warnings, and that `name` goes on.
    """

    def second_run(progress: Progress) -> None:
        _wait_for_a_processor(earlier)
        prove(replace(context, progress=WarningsOnly(progress)))

    progress = context.progress
    with (
        Beside(second_run, progress) as proof,
        Beside(lambda told: go_on(replace(context, progress=told), [*earlier, proof.process]), progress) as rest,
    ):
        running: list[Beside[None] | Beside[T]] = [proof, rest]
        progress.beside([name] if name else [])
        while running:
            over = first_to_end(running, lambda _, report: pass_on([report], progress), progress=progress)
            running.remove(over)
            if over is proof:
                progress.beside(())
                proof.result()
        return rest.result()


def _wait_for_a_processor(earlier: Sequence[int]) -> None:
    """Until the earlier proofs leave one, besides the one for the steps that go on."""
    most = max(1, len(os.sched_getaffinity(0)) - 1)
    alive = list(earlier)
    while len(alive) >= most:
        over, _, _ = select.select(alive, [], [])
        alive = [process for process in alive if process not in over]
