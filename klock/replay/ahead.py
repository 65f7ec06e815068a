"""Fetches the packages of later steps in a process of its own, while the base is unpacked and earlier steps run.

It only fills the store. What it cannot fetch, the step itself asks for again, and says what is wrong.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from klock.lockfile.model import TargetLock
from klock.progress import Quiet
from klock.replay.perform import fetch_for
from klock.steps.context import Context

__all__ = ["Ahead", "fetching_ahead"]


@contextmanager
def fetching_ahead(lock: TargetLock, positions: Sequence[int], context: Context) -> Iterator[Ahead]:
    """Begins to fetch what the steps at `positions` install, in their order; at the end of the block nothing runs."""
    ahead = Ahead(lock, positions, context)
    try:
        yield ahead
    finally:
        ahead.stop()


class Ahead:
    """A process, and not threads: engines fork, and a fork must find one thread."""

    def __init__(self, lock: TargetLock, positions: Sequence[int], context: Context) -> None:
        self._pid = 0
        self._store = context.store
        if context.offline or not positions:
            return
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                from klock.workshop.linux import die_with_parent

                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                die_with_parent(parent)
                for position in positions:
                    fetch_for(lock, position, replace(context, progress=Quiet()))
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
