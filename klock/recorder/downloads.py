"""Long answers: passed on while they come in, at their own pace. Clients may be slow, leave, or come later.

Those that still come in when the step has ended, and nobody reads any more, are locked whole; so they are worth waiting
for, but not for ever. The thread of one that is given up is left behind: it ends with the recorder's process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from klock.recorder.exchange import PATIENCE, Body
from klock.recorder.incoming import Incoming, Truncated
from klock.recorder.redaction import Redaction
from klock.recorder.report import Notes
from klock.values import dataclass

__all__ = ["LEAK", "Downloads", "Leak", "without_secrets"]

LEAK: Final = (
    "its answer holds a secret of the step; name its URL, run_bash(..., private_urls=[...]), so that it is never stored"
)
_SLOWEST: Final = 1 << 20
_TOO_SLOW: Final = "the step ended before its body did, and the body arrives too slowly"
_ENDLESS: Final = "the step ended before its body did, and upstream did not announce the size"


class Leak(Exception):
    """A body holds a known secret."""


def without_secrets(chunks: Iterator[bytes], redaction: Redaction) -> Iterator[bytes]:
    """The same chunks. Raises Leak instead of the one with which a known secret is complete."""
    overlap = b""
    for chunk in chunks:
        if redaction.find_secret(overlap + chunk):
            raise Leak(LEAK)
        overlap = (overlap + chunk)[-redaction.longest :]
        yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Download:
    thread: threading.Thread
    body: Body
    give_up: Callable[[str], None]


class Downloads:
    """The downloads of one step, each in a thread of its own."""

    def __init__(self, *, redaction: Redaction, notes: Notes) -> None:
        self._redaction = redaction
        self._notes = notes
        self._lock = threading.Lock()
        self._all: list[_Download] = []

    def start(
        self,
        incoming: Incoming,
        chunks: Iterator[bytes],
        body: Body,
        *,
        on_whole: Callable[[int, str], None],
        on_problem: Callable[[str], None],
    ) -> None:
        """Writes `chunks`, the whole of `incoming`, into the file of `body`, and closes `incoming`.

        Then one function is called: `on_whole` with size and SHA-256 (hex), or `on_problem` with the reason.
        """

        def give_up(problem: str) -> None:
            on_problem(problem)
            body.break_off()

        def download() -> None:
            try:
                size = self._write(chunks, body)
                on_whole(size, incoming.sha256)
                body.complete(incoming.sha256)
            except (Truncated, Leak, OSError) as error:
                give_up(str(error) or type(error).__name__)
            except BaseException as error:
                self._notes.fail(error, "recording an answer")
                body.break_off()
            finally:
                incoming.close()

        thread = threading.Thread(target=download, name="klock-recorder-download", daemon=True)
        with self._lock:
            self._all.append(_Download(thread=thread, body=body, give_up=give_up))
        thread.start()

    def wait(self) -> None:
        """Returns when each is there or given up: one that may have no end, and one that hardly moves."""
        with self._lock:
            waiting = list(self._all)
        while waiting:
            before = [download.body.size_so_far for download in waiting]
            deadline = time.monotonic() + PATIENCE
            for download in waiting:
                download.thread.join(max(0.0, deadline - time.monotonic()))
            moving = []
            for download, size in zip(waiting, before, strict=True):
                if not download.thread.is_alive():
                    continue
                if download.body.size is None:
                    download.give_up(_ENDLESS)
                elif download.body.size_so_far - size < _SLOWEST:
                    download.give_up(_TOO_SLOW)
                else:
                    moving.append(download)
            waiting = moving

    def _write(self, chunks: Iterator[bytes], body: Body) -> int:
        """Writes all of a body into its file; returns its size. What was written of one with a secret is removed."""
        assert body.path is not None
        size = 0
        with open(body.path, "wb") as file:
            try:
                for chunk in without_secrets(chunks, self._redaction):
                    file.write(chunk)
                    file.flush()
                    size += len(chunk)
                    body.advance(size)
            except Leak:
                file.truncate(0)
                raise
        return size
