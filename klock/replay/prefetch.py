"""Fetches the packages of later steps in a process of its own, while the base is unpacked and earlier steps run.

It only fills the store. What it cannot fetch, the step itself asks for again, and says what is wrong.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from klock.progress import Quiet
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.values import replace

__all__ = ["Prefetch", "prefetching"]


@contextmanager
def prefetching(steps: Sequence[StepAt[Any]], context: Context) -> Iterator[Prefetch]:
    """Begins to fetch what `steps` install, in their order; at the end of the block nothing runs."""
    prefetch = Prefetch(steps, context)
    try:
        yield prefetch
    finally:
        prefetch.stop()


class Prefetch:
    """A process, and not threads: the workshop forks, and a fork must find one thread."""

    def __init__(self, steps: Sequence[StepAt[Any]], context: Context) -> None:
        self._pid = 0
        self._store = context.store
        if context.offline or not steps:
            return
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                from klock.workshop.linux import die_with_parent
                from klock.workshop.signals import end_at_once

                end_at_once()
                die_with_parent(parent)
                for at in steps:
                    kind_of(at.step).fetch(at, replace(context, progress=Quiet()))
            finally:
                os._exit(0)  # whatever happened: nothing of the parent's is to be run, said or cleaned up here

    def wait(self) -> None:
        """Until all that can be fetched is in the store."""
        if self._pid:
            pid, self._pid = self._pid, 0
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            self._store.remove_temporary_files(of_process=pid)

    def stop(self) -> None:
        """Ends it wherever it is, and removes what it has half written."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self.wait()
