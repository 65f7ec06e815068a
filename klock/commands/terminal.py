"""Draws progress on stderr: a live line on a terminal, plain lines in a file or a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from klock.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["progress_for"]


def progress_for(*, quiet: bool, verbose: bool) -> Progress:
    """What suits stderr and the user's wish. `verbose` shows what steps print, as they print it."""
    if quiet:
        from klock.progress import Quiet

        return Quiet()
    if sys.stderr.isatty() and not verbose:
        return _Live()
    return _Lines(verbose=verbose)


class _Lines:
    """One line when a task starts and one when it ends."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose

    def begin(self, task: str, *, total: int | None = None) -> None:
        self._say(task)

    def advance(self, amount: int) -> None: ...

    def output(self, text: bytes) -> None:
        if self._verbose:
            sys.stderr.write(text.decode("utf-8", "replace"))
            sys.stderr.flush()

    def done(self, result: str) -> None:
        self._say(f"  {result}")

    def warn(self, message: str) -> None:
        self._say(f"warning: {message}")

    def _say(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class _Live:
    """The present task as a line that is drawn again, with a bar where the bytes are known; finished tasks stay above.

    Drawn from the calls alone, without rich's refresh thread: the engine forks, and a fork must find one thread.
    """

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._text = ""
        self._drawn = 0.0

    def begin(self, task: str, *, total: int | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._stop()
        self._text = task
        columns: list[object] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if total:
            columns += [BarColumn(), DownloadColumn()]
        self._bars = Bars(
            *columns,  # type: ignore[arg-type]
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            auto_refresh=False,
            transient=True,
        )
        self._bars.start()
        self._task = self._bars.add_task(task, total=total)
        self._bars.refresh()

    def advance(self, amount: int) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, amount)
            self._draw()

    def output(self, text: bytes) -> None:
        self._draw()

    def done(self, result: str) -> None:
        self._stop()
        sys.stderr.write(f"{self._text}: {result}\n")
        sys.stderr.flush()

    def warn(self, message: str) -> None:
        self._stop()
        sys.stderr.write(f"warning: {message}\n")
        sys.stderr.flush()

    def _draw(self) -> None:
        now = time.monotonic()
        if self._bars is not None and now - self._drawn > 0.1:
            self._drawn = now
            self._bars.refresh()

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
