"""Functions in processes of their own, beside this one: they report their progress here, and can be ended anywhere.

Processes and not threads: the workshop forks, and a fork must find one thread. A function gets a `Progress` whose calls
come out of `reports`. It may go on to start others: those report to whom it reports, and end when it ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Generic, TypeAlias, TypeVar

from klock.errors import EngineError, KlockError
from klock.forks import pickled_outcome
from klock.progress import Progress, Quiet

__all__ = ["Beside", "Report", "WarningsOnly", "first_to_end", "pass_on"]

T = TypeVar("T")
Report: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A method of Progress, with its arguments and those that are named."""

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GRACE: Final = 60.0
"""Seconds that a process has to clear up after itself when it is ended, on a slow machine too."""
_TICK: Final = 0.25
"""Seconds."""
_CHUNK: Final = 1 << 14
"""Bytes, or characters, of a report, so that it goes into one datagram."""
_LARGEST: Final = 1 << 17


class _Ended(BaseException):
    """The process is to end now, and to clear up on its way."""


class Beside(Generic[T]):
    """A function that runs in a child process until it returns, or until the `with` block ends.

    If `progress` leads to another process already, what the function reports goes there at once. Else, and always with
    `own`, it is for whoever asks for it here.
    """

    def __init__(self, task: Callable[[Progress], T], progress: Progress, *, own: bool = False) -> None:
        self._task = task
        self._progress = None if own else progress

    def __enter__(self) -> Beside[T]:
        # Datagrams: several processes may report at once, and none of them half a report.
        self.reports, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.reports.setblocking(False)
        self._outcome = os.memfd_create("outcome", os.MFD_CLOEXEC)
        # Not between the start of the child and the place where somebody would end it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self.reports.close()
            told = self._progress if isinstance(self._progress, _Reporting) else _Reporting(end)
            _become(self._task, parent=parent, progress=told, outcome=self._outcome)
        self._is_waited_for = False
        self.process = os.pidfd_open(self.pid)
        try:
            end.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self.end()
        for descriptor in (self.process, self._outcome):
            os.close(descriptor)
        self.reports.close()

    def is_over(self, seconds: float | None = 0) -> bool:
        """Whether it has ended, or does within `seconds`."""
        return self._is_waited_for or bool(select.select([self.process], [], [], seconds)[0])

    def reported(self) -> Iterator[Report]:
        """What it has reported since this was asked last."""
        while True:
            try:
                message = self.reports.recv(_LARGEST)
            except BlockingIOError:
                return
            if not message:
                return
            yield pickle.loads(message)

    def result(self) -> T:
        """What the function returned, when it has ended; what it raised is raised here."""
        self._wait()
        size = os.fstat(self._outcome).st_size
        if not size:
            raise EngineError("a process of klock ended without a result", hint="try again")
        succeeded, value = pickle.loads(os.pread(self._outcome, size, 0))
        if not succeeded:
            raise value
        result: T = value
        return result

    def end(self) -> None:
        """Ends it with all that it started; it clears up first."""
        if self._is_waited_for:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
            if not self.is_over(_GRACE):
                os.kill(self.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> None:
        if not self._is_waited_for:
            os.waitpid(self.pid, 0)
            self._is_waited_for = True


def first_to_end(
    running: Sequence[Beside[Any]],
    on_report: Callable[[Beside[Any], Report], None],
    *,
    progress: Progress | None = None,
) -> Beside[Any]:
    """Waits until one of the processes ends, and passes on what all of them report meanwhile.

    `progress` is told, without a word, that time goes by.
    """
    while True:
        waiting: list[Any] = [each.process for each in running] + [each.reports for each in running]
        heard, _, _ = select.select(waiting, [], [], _TICK)
        if not heard and progress is not None and not isinstance(progress, _Reporting):
            progress.output(b"")
        over = next((each for each in running if each.is_over()), None)
        for each in running:
            for report in each.reported():
                on_report(each, report)
        if over is not None:
            return over


def pass_on(reports: Iterable[Report], progress: Progress) -> None:
    for method, arguments, named in reports:
        getattr(progress, method)(*arguments, **named)


class WarningsOnly(Quiet):
    """The progress of what goes on unseen."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def warn(self, message: str) -> None:
        self._progress.warn(message)


class _Reporting:
    """A Progress that sends each call to the process that listens."""

    def __init__(self, reports: socket.socket) -> None:
        self._reports = reports

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self._send("begin", task[:_CHUNK], total=total, unit=unit)

    def advance(self, amount: int) -> None:
        self._send("advance", amount)

    def output(self, text: bytes) -> None:
        for start in range(0, len(text), _CHUNK):
            self._send("output", text[start : start + _CHUNK])

    def done(self, result: str) -> None:
        self._send("done", result[:_CHUNK])

    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> contextlib.AbstractContextManager[None]:
        """Not told: what goes on side by side takes no time of its own."""
        return contextlib.nullcontext()

    def beside(self, names: Sequence[str]) -> None:
        self._send("beside", [name[:200] for name in names[:20]])

    def warn(self, message: str) -> None:
        self._send("warn", message[:_CHUNK])

    def note(self, message: str) -> None:
        self._send("note", message[:_CHUNK])

    def _send(self, method: str, *arguments: Any, **named: Any) -> None:
        self._reports.send(pickle.dumps((method, arguments, named)))


def _become(task: Callable[[Progress], Any], *, parent: int, progress: Progress, outcome: int) -> None:
    """What the child does; never returns."""
    try:
        from klock.workshop.linux import die_with_parent

        signal.signal(signal.SIGTERM, _raise_ended)
        die_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        result: tuple[bool, object] = (True, task(progress))
    except _Ended:
        os._exit(0)
    except BaseException as error:
        if not isinstance(error, KlockError | KeyboardInterrupt):
            error.add_note("".join(traceback.format_exception(error)))
        result = (False, error)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with open(outcome, "wb", closefd=False) as file:
            file.write(pickled_outcome(result))
    finally:
        os._exit(0)


def _raise_ended(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Ended
