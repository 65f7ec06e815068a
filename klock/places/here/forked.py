"""Runs a function in a process of its own, for what would change this one, such as its root."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import TypeVar

from klock.errors import EngineError

__all__ = ["in_fork"]

T = TypeVar("T")


def in_fork(task: Callable[[], T]) -> T:
    """Returns what `task` returns, or raises what it raises."""
    results, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outcome: tuple[bool, object] = (True, task())
        except BaseException as error:
            outcome = (False, error)
        with open(end, "wb") as pipe:
            pickle.dump(outcome, pipe)
        os._exit(0)
    os.close(end)
    with open(results, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    if not content:
        raise EngineError("a process of klock ended without a result", hint="try again")
    succeeded, value = pickle.loads(content)
    if not succeeded:
        raise value
    result: T = value
    return result
