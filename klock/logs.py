"""What steps printed the last time that they ran, kept whole: a message has only its end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final

from klock.errors import StepFailed
from klock.progress import Progress
from klock.secrets.masking import TAIL_LINES

__all__ = ["Logged", "forget_failure", "hinting_at_logs"]

_FAILED: Final = b"==> failed: "
_LONGEST: Final = 1 << 12
"""Bytes of a line that says what failed."""


class Logged:
    """A `Progress` that also writes to `file` what steps print, below the name of the task that printed it.

    The file is begun anew when something is printed, so a run in which no step prints leaves the last one as it was. A
    log that cannot be written is none.
    """

    def __init__(self, progress: Progress, file: Path) -> None:
        self._progress = progress
        self._file = file
        self._opened: BinaryIO | None = None
        self._tasks: list[str] = []
        self._named: str | None = None
        self.lines = 0

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self._tasks.append(task)
        self._progress.begin(task, total=total, unit=unit)

    def advance(self, amount: int) -> None:
        self._progress.advance(amount)

    def output(self, text: bytes) -> None:
        with contextlib.suppress(OSError):
            self._write(text)
        self._progress.output(text)

    def done(self, result: str) -> None:
        if self._tasks:
            self._tasks.pop()
        self._progress.done(result)

    def stage(self, name: str, how_far: Callable[[], str] | None = None) -> AbstractContextManager[None]:
        return self._progress.stage(name, how_far)

    def beside(self, names: Sequence[str]) -> None:
        self._progress.beside(names)

    def warn(self, message: str) -> None:
        self._progress.warn(message)

    def note(self, message: str) -> None:
        self._progress.note(message)

    def failed(self, error: StepFailed) -> None:
        """Writes the failure below what this run has printed."""
        if self._opened is not None:
            line = error.message.partition("\n")[0].encode("utf-8", "replace")[: _LONGEST - 64]
            with contextlib.suppress(OSError):
                self._opened.write(b"\n" + _FAILED + line + b" <==\n")

    def _write(self, text: bytes) -> None:
        if self._opened is None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # What a build prints is nobody else's business.
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._opened = os.fdopen(descriptor, "wb", buffering=0)
        task = self._tasks[-1] if self._tasks else ""
        if task != self._named:
            self._named = task
            self._opened.write(f"==> {task} <==\n".encode("utf-8", "replace"))
        self._opened.write(text)
        self.lines += text.count(b"\n")


@contextlib.contextmanager
def hinting_at_logs(progress: Progress) -> Iterator[None]:
    """A step that fails in the block, after more was printed than a message shows, leads to the log."""
    try:
        yield
    except StepFailed as error:
        if isinstance(progress, Logged):
            progress.failed(error)
            if progress.lines > TAIL_LINES:
                where = "`klock logs` shows all that it printed"
                error.hint = where if error.hint is None else f"{error.hint}; {where}"
        raise


def forget_failure(file: Path) -> None:
    """Removes the log of a run in which a step failed. Called after a lock that succeeded: the step is no longer in the
    image, or it printed nothing."""
    with contextlib.suppress(OSError):
        with open(file, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LONGEST))
            last = log.read().rstrip(b"\n").rpartition(b"\n")[2]
        if last.startswith(_FAILED):
            file.unlink()
