"""Draws progress on stderr: a live line on a terminal, plain lines in a file or a log.

Tasks nest: what is fetched for a step is a task within the step's.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

from klock.commands.printing import say, say_output
from klock.escaping import ForeignText, on_one_line
from klock.progress import Progress, Quiet

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["Notes", "progress_on_stderr"]

P = ParamSpec("P")

_TICK: Final = 0.25
"""Seconds between two drawings of a line while klock waits."""


@contextlib.contextmanager
def progress_on_stderr(*, quiet: bool, verbose: bool) -> Iterator[Progress]:
    """What suits stderr and the user's wish. `verbose` shows what steps print, as they print it.

    However the block ends, the terminal is left as it was.
    """
    if quiet:
        yield Notes()
    elif sys.stderr.isatty() and not verbose:
        live = _Live()
        try:
            yield live
        finally:
            live.stop()
    else:
        yield _Lines(verbose=verbose)


class Notes(Quiet):
    """Says what klock chose, and nothing of its work."""

    def note(self, message: str) -> None:
        say(message)


class _Lines:
    """One line when a task starts and one when it ends, indented by how deep it is."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._depth = 0
        self._printed = ForeignText()

    def begin(self, task: str, *, total: int | None = None) -> None:
        self._say(task)
        self._depth += 1

    def advance(self, amount: int) -> None: ...

    def output(self, text: bytes) -> None:
        if self._verbose:
            say_output(self._printed.feed(text))

    def done(self, result: str) -> None:
        self._say(result)
        self._depth = max(0, self._depth - 1)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        if self._verbose:
            self._say(f"{name}: {time.monotonic() - started:.2f} s")

    def warn(self, message: str) -> None:
        self._say(f"warning: {message}")

    def note(self, message: str) -> None:
        self._say(message)

    def _say(self, text: str) -> None:
        if rest := self._printed.end():
            say_output(rest)
        say(text, indent="  " * self._depth)


def _undisturbed(method: Callable[Concatenate[_Live, P], None]) -> Callable[Concatenate[_Live, P], None]:
    """The timer draws nothing in the middle of it."""

    def alone(live: _Live, /, *args: P.args, **kwargs: P.kwargs) -> None:
        before, live._is_busy = live._is_busy, True
        try:
            method(live, *args, **kwargs)
        finally:
            live._is_busy = before

    return alone


class _Live:
    """The innermost task as a line that is drawn again, with a bar where the bytes are known; what is done stays above.

    It is drawn at the calls, and by a timer while klock waits: not by rich's refresh thread, for the workshop forks,
    and a fork must find one thread. A child process has no timer (setitimer(2)).
    """

    def __init__(self) -> None:
        self._is_busy = False
        self._tasks: list[tuple[str, int | None]] = []
        self._bars: Bars | None = None
        self._shown: TaskID | None = None
        self._drawn = 0.0

    @_undisturbed
    def begin(self, task: str, *, total: int | None = None) -> None:
        self._tasks.append((task, total))
        self._show()

    @_undisturbed
    def advance(self, amount: int) -> None:
        if self._bars is not None and self._shown is not None:
            self._bars.advance(self._shown, amount)
            self._draw()

    @_undisturbed
    def output(self, text: bytes) -> None:
        self._draw()

    @_undisturbed
    def done(self, result: str) -> None:
        self.stop()
        task, _ = self._tasks.pop() if self._tasks else ("", None)
        say(f"{task}: {result}", indent="  " * len(self._tasks))
        self._show()

    def stage(self, name: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @_undisturbed
    def warn(self, message: str) -> None:
        self.stop()
        say(f"warning: {message}")
        self._show()

    @_undisturbed
    def note(self, message: str) -> None:
        self.stop()
        say(message)
        self._show()

    @_undisturbed
    def stop(self) -> None:
        """Takes the line away and gives the cursor back. A program that takes klock's place would inherit the timer."""
        if self._bars is not None:
            if _may_tick():
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
            self._bars.stop()
            self._bars = None

    def _tick(self, *_: object) -> None:
        # It may come in the middle of a call that writes to the terminal.
        if not self._is_busy:
            self._draw()

    def _show(self) -> None:
        self.stop()
        if not self._tasks:
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bars

        task, total = self._tasks[-1]
        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if total:
            columns += [BarColumn(), DownloadColumn()]
        columns.append(TimeElapsedColumn())
        console = Console(stderr=True, highlight=False)
        self._bars = Bars(*columns, console=console, auto_refresh=False, transient=True)
        self._bars.start()
        self._shown = self._bars.add_task(on_one_line(task), total=total)
        self._bars.refresh()
        if _may_tick():
            signal.signal(signal.SIGALRM, self._tick)
            signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)

    def _draw(self) -> None:
        now = time.monotonic()
        if self._bars is not None and now - self._drawn > 0.1:
            self._drawn = now
            self._bars.refresh()


def _may_tick() -> bool:
    """Signals are for the main thread, and come to it alone."""
    return threading.current_thread() is threading.main_thread()
