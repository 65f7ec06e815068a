"""Several blobs at once into the store, each verified as it arrives.

All threads have ended when this returns: the workshop forks, and a fork with threads around is a trap.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from klock.digests import Digest
from klock.errors import FetchError
from klock.progress import Progress
from klock.store import Store
from klock.values import dataclass
from klock.words import first_of

__all__ = ["Wanted", "download"]

THREAD_NAME: Final = "klock-download"

_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Bytes that must come to be in the store. `open` begins to fetch them; `name` is for messages."""

    digest: Digest
    size: int
    name: str
    open: Callable[[], Iterator[bytes]]


def download(
    wanted: Sequence[Wanted],
    *,
    task: str,
    store: Store,
    offline: bool,
    progress: Progress,
    how_far: Callable[[], str] | None = None,
) -> None:
    """Brings what the store lacks. Raises FetchError, HashMismatch; files that are complete by then stay.

    The first failure stops the other transfers, so that nobody waits minutes for the error. `how_far` is for transfers
    whose bytes are not those of the stored files: it says how far they are.
    """
    missing = list({w.digest: w for w in wanted if store.find_blob(w.digest) is None}.values())
    if not missing:
        return
    if offline:
        raise FetchError(
            f"{task}: {first_of((w.name for w in missing), most=1)} not in the store, and klock is offline",
            hint="run the command once without --offline",
        )
    # Largest first: the last one to end is then a small one.
    missing.sort(key=lambda w: (-w.size, w.digest))
    progress.begin(task, total=sum(w.size for w in missing))
    with progress.stage("fetch", how_far) if how_far else contextlib.nullcontext():
        _Downloads(missing, store, progress).run()
    progress.done(f"{len(missing)} fetched")


class _Downloads:
    def __init__(self, wanted: list[Wanted], store: Store, progress: Progress) -> None:
        self._waiting = list(reversed(wanted))
        self._store = store
        self._progress = progress
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._work, name=THREAD_NAME) for _ in range(min(_AT_ONCE, len(self._waiting)))
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as interruption:
            # Ctrl-C arrives here; the threads see it at their next chunk.
            self._failure = self._failure or interruption
            for thread in threads:
                thread.join()
            raise
        if self._failure:
            raise self._failure

    def _work(self) -> None:
        try:
            while self._failure is None:
                with self._lock:
                    if not self._waiting:
                        return
                    wanted = self._waiting.pop()
                self._store.add_blob(self._watched(wanted), digest=wanted.digest, size=wanted.size, source=wanted.name)
        except BaseException as error:
            with self._lock:
                self._failure = self._failure or error

    def _watched(self, wanted: Wanted) -> Iterator[bytes]:
        for chunk in wanted.open():
            if self._failure is not None:
                raise self._failure
            with self._lock:
                self._progress.advance(len(chunk))
            yield chunk
