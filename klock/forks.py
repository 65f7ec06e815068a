"""Runs functions in processes of their own: for what would change this one, such as its root, or to use every core.

Processes and not threads: the workshop forks, and Python code runs on one core only.
"""

from __future__ import annotations

import functools
import mmap
import os
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from klock.errors import EngineError
from klock.words import in_bytes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Tally", "in_fork", "map_in_forks", "pickled_outcome", "written_to"]

T = TypeVar("T")
A = TypeVar("A")

_MOST: Final = 8


def in_fork(task: Callable[[], T]) -> T:
    """Returns what `task` returns, or raises what it raises."""
    result: T = _result_of(*_start(task))
    return result


def map_in_forks(
    function: Callable[[A], T],
    items: Sequence[A],
    *,
    cost: Callable[[A], int],
    meanwhile: Callable[[], None] | None = None,
) -> list[T]:
    """What `function` returns for each item, in order, with a process for each core. `cost` tells large items from
    small ones. The first error is raised, when all have ended.

    `meanwhile` is called here while they work, and may start threads. If it fails, they are ended.
    """
    workers = min(len(os.sched_getaffinity(0)), _MOST, len(items))
    if workers <= 1 and meanwhile is None:
        return [function(item) for item in items]
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for index in sorted(range(len(items)), key=lambda index: -cost(items[index])):
        worker = loads.index(min(loads))
        shares[worker].append(index)
        loads[worker] += cost(items[index]) + 1

    def work(share: list[int]) -> list[tuple[int, T]]:
        return [(index, function(items[index])) for index in share]

    started: list[tuple[int, int]] = []
    try:
        for share in shares:
            started.append(_start(functools.partial(work, share)))
        if meanwhile is not None:
            meanwhile()
    except BaseException:
        for child, results in started:
            os.close(results)
            _end(child)
        raise
    found: dict[int, T] = {}
    errors: list[BaseException] = []
    for child, results in started:
        try:
            found.update(_result_of(child, results))
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return [found[index] for index in range(len(items))]


class Tally:
    """How much of something is done, told by whatever processes do it, and read by the one that waits for them."""

    def __init__(self, unit: str, total: int = 0, *, parts: int = 64) -> None:
        """`unit` is a plural, or `bytes`. `total` may also be said later, by `expect`. `parts` is how many processes
        may tell of it at once."""
        self._unit = unit
        self._parts = parts
        self._shared = mmap.mmap(-1, _NUMBER * (1 + parts))
        self._put(0, total)

    def expect(self, total: int) -> None:
        self._put(0, total)

    def add(self, amount: int = 1, *, part: int = 0) -> None:
        """So much more is done. One process at a time tells of a `part`, a number from 0."""
        self._put(1 + part, self._get(1 + part) + amount)

    def __call__(self) -> str:
        """`3 of 12 wheels`, `1.2 MB of 30.5 MB`; empty as long as it is not known how many there are."""
        total = self._get(0)
        if not total:
            return ""
        done = sum(self._get(1 + part) for part in range(self._parts))
        if self._unit == "bytes":
            return f"{in_bytes(done)} of {in_bytes(total)}"
        return f"{done} of {total} {self._unit}"

    def _get(self, slot: int) -> int:
        return int.from_bytes(self._shared[slot * _NUMBER : (slot + 1) * _NUMBER], "little")

    def _put(self, slot: int, number: int) -> None:
        self._shared[slot * _NUMBER : (slot + 1) * _NUMBER] = number.to_bytes(_NUMBER, "little")


def written_to(file: Path) -> Callable[[], str]:
    """How much of a file another process has written, such as `1.2 MB`; empty until there is a file."""

    def size() -> str:
        try:
            return in_bytes(file.stat().st_size)
        except FileNotFoundError:
            return ""

    return size


_NUMBER: Final = 8
"""Bytes of a number in shared memory."""


def _start(task: Callable[[], Any]) -> tuple[int, int]:
    """The process id of a child that does `task`, and a pipe that its result comes out of."""
    import pickle  # noqa: F401 (before the fork)

    results, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                outcome: tuple[bool, object] = (True, task())
            except BaseException as error:
                outcome = (False, error)
            with open(end, "wb") as pipe:
                pipe.write(pickled_outcome(outcome))
        finally:
            os._exit(0)  # in any case: the parent's further work is not the child's
    os.close(end)
    return child, results


def pickled_outcome(outcome: tuple[bool, object]) -> bytes:
    """Whether a task succeeded, and its result or its error, as bytes for another process. An error that cannot be
    pickled, such as one that holds an open file, becomes an EngineError with the same text."""
    import pickle

    succeeded, value = outcome
    try:
        content = pickle.dumps(outcome, protocol=pickle.HIGHEST_PROTOCOL)
        if not succeeded:
            pickle.loads(content)  # some can be written, but not read
        return content
    except Exception:
        if succeeded:
            raise
    error = EngineError(f"a process of klock failed: {type(value).__name__}: {value}")
    for note in getattr(value, "__notes__", ()):
        error.add_note(note)
    return pickle.dumps((False, error), protocol=pickle.HIGHEST_PROTOCOL)


def _result_of(child: int, results: int) -> Any:
    with open(results, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    if not content:
        raise EngineError("a process of klock ended without a result", hint="try again")
    import pickle

    succeeded, value = pickle.loads(content)
    if not succeeded:
        raise value
    return value


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)  # SIGTERM may be ignored, as after `trap "" TERM`
    os.waitpid(child, 0)
