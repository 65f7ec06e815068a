"""Draws progress on stderr: a live line on a terminal, plain lines in a file or a log.

Tasks nest: what is fetched for a step is a task within the step's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

from klock.escaping import ForeignText, on_one_line
from klock.printing import say, say_output
from klock.progress import Progress, Quiet
from klock.values import dataclass, field
from klock.words import in_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["Notes", "progress_on_stderr", "progress_on_terminal"]

P = ParamSpec("P")

_TICK: Final = 0.25
"""Seconds between two drawings of a line while klock waits."""
_BEAT: Final = 10.0
"""Seconds between two lines of a log that say how far a task is."""
_BAR: Final = 20
_AROUND: Final = 6
"""Columns of the bar; and of the spinner, the spaces, and `^C`, which must fit too: else a full line becomes two."""
_LONGEST: Final = 300
"""Characters of a line that a command printed."""


@contextlib.contextmanager
def progress_on_stderr(*, quiet: bool, verbose: bool) -> Iterator[Progress]:
    """What suits stderr and the user's wish. `verbose` shows what steps print, as they print it.

    However the block ends, the terminal is left as it was.
    """
    if quiet:
        yield Notes()
    elif _draws_again() and not verbose:
        live = _Live()
        try:
            yield live
        finally:
            live.stop()
    else:
        lines = _Lines(verbose=verbose)
        try:
            yield lines
        finally:
            lines.stop()


@contextlib.contextmanager
def progress_on_terminal(*, quiet: bool) -> Iterator[Progress]:
    """For commands that are quick as a rule and say little: a terminal sees how far they are, a log when they take
    long."""
    if quiet or _draws_again():
        with progress_on_stderr(quiet=quiet, verbose=False) as progress:
            yield progress
        return
    lines = _Lines(verbose=False, names_tasks=False)
    try:
        yield lines
    finally:
        lines.stop()


def _draws_again() -> bool:
    """Whether stderr is a terminal on which a line can be drawn again; as git has it, TERM says so."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


class Notes(Quiet):
    """Says what klock chose, and nothing of its work."""

    def note(self, message: str) -> None:
        say(message)


@dataclass(slots=True, kw_only=True)
class _Task:
    """A task that goes on. `started` as `time.monotonic` has it; `done` of `total`, in `unit`; `stages` are the parts
    of it that go on, the innermost last; `last` is the last line that its command printed."""

    name: str
    total: int | None
    unit: str
    started: float
    done: int = 0
    stages: list[tuple[str, Callable[[], str] | None]] = field(default_factory=list)
    last: str = ""

    @property
    def counted(self) -> str:
        """`12.3 MB of 70.1 MB`, `14 of 110 packages`; `12.3 MB` without a known total; empty if nothing is counted."""
        done = in_bytes(self.done) if self.unit == "bytes" else str(self.done)
        if not self.total:
            return done if self.done else ""
        return f"{done} of {in_bytes(self.total) if self.unit == 'bytes' else f'{self.total} {self.unit}'}"

    @property
    def elapsed(self) -> str:
        """`0:01:07`"""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"

    def heard(self, line: str) -> None:
        if line.strip():
            self.last = line.strip()


class _Tasks:
    """The tasks that go on, the innermost last, and what goes on beside them."""

    def __init__(self) -> None:
        self.tasks: list[_Task] = []
        self.others: tuple[str, ...] = ()
        self._printed = ForeignText()
        self._line = ""

    def begin(self, name: str, total: int | None, unit: str) -> None:
        self.tasks.append(_Task(name=name, total=total, unit=unit, started=time.monotonic()))
        self._line = ""

    def hear(self, text: bytes) -> str:
        """What was printed, fit to show; its last whole line is the task's."""
        shown = self._printed.feed(text)
        *lines, self._line = (self._line + shown).replace("\r", "\n").split("\n")
        self._line = self._line[-_LONGEST:]
        if self.tasks:
            for line in lines[-20:]:
                self.tasks[-1].heard(line[:_LONGEST])
        return shown

    def end_of_output(self) -> str:
        return self._printed.end()

    @contextlib.contextmanager
    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> Iterator[None]:
        stages = self.tasks[-1].stages if self.tasks else []
        stages.append((name, how_far))
        try:
            yield
        finally:
            stages.remove((name, how_far))

    def status(self) -> str:
        """Of the innermost: what of it goes on, and how far it is."""
        task = self.tasks[-1]
        beside = f"beside {', '.join(self.others)}" if self.others else ""
        stage, how_far = task.stages[-1] if task.stages else ("", None)
        return ", ".join(filter(None, (stage, how_far() if how_far else task.counted, beside)))


class _Lines:
    """One line when a task starts and one when it ends, indented by how deep it is. In between, at most every ten
    seconds, one that says how far it is: who reads a log wants to know whether anything happens.

    Unless it `names_tasks`, only those lines in between, which name the task then."""

    def __init__(self, *, verbose: bool, names_tasks: bool = True) -> None:
        self._verbose = verbose
        self._names_tasks = names_tasks
        self._tasks = _Tasks()
        self._said = time.monotonic()
        self._is_busy = False

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        if self._names_tasks:
            self._say(task)
        self._tasks.begin(task, total, unit)
        self._tick_if_needed()

    def advance(self, amount: int) -> None:
        if self._tasks.tasks:
            self._tasks.tasks[-1].done += amount

    def output(self, text: bytes) -> None:
        shown = self._tasks.hear(text)
        if self._verbose:
            self._said = time.monotonic()
            say_output(shown)

    def done(self, result: str) -> None:
        if self._names_tasks:
            self._say(result)
        if self._tasks.tasks:
            self._tasks.tasks.pop()
        self._tick_if_needed()

    @contextlib.contextmanager
    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> Iterator[None]:
        started = time.monotonic()
        with self._tasks.stage(name, how_far):
            yield
        if self._verbose:
            self._say(f"{name}: {time.monotonic() - started:.2f} s")

    def beside(self, names: Sequence[str]) -> None:
        self._tasks.others = tuple(names)

    def warn(self, message: str) -> None:
        self._say(f"warning: {message}")

    def note(self, message: str) -> None:
        self._say(message)

    def stop(self) -> None:
        _stop_ticking()

    def _tick_if_needed(self) -> None:
        if self._tasks.tasks:
            _tick_every(_BEAT, self._beat)
        else:
            _stop_ticking()

    def _beat(self, *_: object) -> None:
        # It may come in the middle of a line that is written; then the next one will do.
        if self._is_busy or not self._tasks.tasks or time.monotonic() - self._said < _BEAT - _TICK:
            return
        task, status = self._tasks.tasks[-1], self._tasks.status()
        name = "" if self._names_tasks else on_one_line(task.name)
        words = ", ".join(filter(None, (name, f"after {task.elapsed}", status, on_one_line(task.last))))
        self._say(f"... {words}")

    def _say(self, text: str) -> None:
        before, self._is_busy = self._is_busy, True
        try:
            if (rest := self._tasks.end_of_output()) and self._verbose:
                say_output(rest)
            say(text, indent="  " * len(self._tasks.tasks) if self._names_tasks else "")
            self._said = time.monotonic()
        finally:
            self._is_busy = before


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
    """The innermost task as a line that is drawn again, with a bar where it is known how much there is to do, and below
    it the last line that its command printed. What is done stays above.

    It is drawn at the calls, and by a timer while klock waits: not by rich's refresh thread, for the workshop forks,
    and a fork must find one thread. A child process has no timer (setitimer(2)).
    """

    def __init__(self) -> None:
        self._is_busy = False
        self._tasks = _Tasks()
        self._bars: Bars | None = None
        self._shown: TaskID | None = None
        self._drawn = 0.0

    @_undisturbed
    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self.stop()
        self._tasks.begin(task, total, unit)
        self._show()

    @_undisturbed
    def advance(self, amount: int) -> None:
        if self._tasks.tasks:
            self._tasks.tasks[-1].done += amount
            self._draw()

    @_undisturbed
    def output(self, text: bytes) -> None:
        self._tasks.hear(text)
        self._draw()

    @_undisturbed
    def done(self, result: str) -> None:
        self.stop()
        task = self._tasks.tasks.pop().name if self._tasks.tasks else ""
        say(f"{task}: {result}", indent="  " * len(self._tasks.tasks))
        self._show()

    @contextlib.contextmanager
    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> Iterator[None]:
        with self._tasks.stage(name, how_far):
            self._draw_undisturbed()
            yield

    @_undisturbed
    def beside(self, names: Sequence[str]) -> None:
        self._tasks.others = tuple(names)
        self._draw()

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
            _stop_ticking()
            self._update()
            self._bars.stop()
            self._bars = None

    @_undisturbed
    def _draw_undisturbed(self) -> None:
        self._draw()

    def _tick(self, *_: object) -> None:
        # The signal may interrupt a call that writes to the terminal, even an earlier tick: Ctrl-S holds a write up.
        if not self._is_busy:
            self._draw_undisturbed()

    def _show(self) -> None:
        self.stop()
        if not self._tasks.tasks:
            return
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bars

        task = self._tasks.tasks[-1]
        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if task.total:
            columns.append(BarColumn(bar_width=_BAR))
        columns.append(TextColumn("{task.fields[status]}", markup=False))
        console = Console(stderr=True, highlight=False)
        self._bars = Bars(*columns, console=console, auto_refresh=False, transient=True)
        self._bars.start()
        self._shown = self._bars.add_task("", total=task.total, status="")
        self._update()
        self._bars.refresh()
        _tick_every(_TICK, self._tick)

    def _draw(self) -> None:
        now = time.monotonic()
        if self._bars is not None and now - self._drawn > 0.1:
            self._drawn = now
            self._update()
            self._bars.refresh()

    def _update(self) -> None:
        if self._bars is None or self._shown is None or not self._tasks.tasks:
            return
        task = self._tasks.tasks[-1]
        name = on_one_line(f"{task.name}: {task.last}" if task.last else task.name)
        status = " ".join(filter(None, (task.elapsed, on_one_line(self._tasks.status()))))
        # All but the name is short, and tells that something moves.
        room = self._bars.console.width - _AROUND - (_BAR + 1 if task.total else 0) - len(status)
        self._bars.update(self._shown, description=_cut(name, room), status=status, completed=task.done)


def _cut(text: str, room: int) -> str:
    """As much of a text as is seen in so many columns."""
    from rich.cells import cell_len, chop_cells

    if cell_len(text) <= room:
        return text
    return chop_cells(text, max(1, room - 1))[0] + "…"


def _tick_every(seconds: float, draw: Callable[..., None]) -> None:
    """Calls `draw` again and again, by a signal: in the main thread, and in this process alone."""
    if _may_tick():
        signal.signal(signal.SIGALRM, draw)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def _stop_ticking() -> None:
    if _may_tick():
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _may_tick() -> bool:
    """Signals are for the main thread, and come to it alone."""
    return threading.current_thread() is threading.main_thread()
