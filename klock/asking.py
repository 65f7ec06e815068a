"""Questions to upstream that nothing waits for: what is newer, what moved, what is known to be unsafe.

Asked politely (few at once to a host, again only when the host says when), remembered for some minutes, and given up
when the time is over. Downloads are not asked here: they take as long as they take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from klock.digests import digest_of_json, is_digest
from klock.errors import FetchError, KlockError, OutOfTime
from klock.values import dataclass
from klock.words import counted

if TYPE_CHECKING:
    from klock.fetching.transport import Transport
    from klock.store import Store

__all__ = ["Answer", "Asker"]

T = TypeVar("T")
R = TypeVar("R")

_PARALLEL: Final = 16
"""At once in all; to one host it is half of that at most (`klock.connections.Pools`)."""
_FRESH: Final = 600
"""How long an answer is taken for today's, in seconds: as uv does with an index's pages where nothing else is said."""
_RECORDS: Final = "asked"
_KEPT_STATUSES: Final = (200, 404, 410)
_KEPT_HEADERS: Final = ("content-type", "content-length", "etag", "last-modified", "link", "docker-content-digest")
_LARGEST_KEPT: Final = 4 << 20
"""bytes"""
_BUSY: Final = (429, 503)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Header names are in lower case. The `body` of a HEAD is empty."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Asker:
    """May be used from several threads. `seconds` is the time for all questions together, from now.

    `unasked` is how many could not be asked in that time, and `notes` say what could not be asked for another reason.
    """

    def __init__(self, store: Store, *, ca_bundle: Path | None = None, seconds: float, offline: bool = False) -> None:
        self._store = store
        self._ca_bundle = ca_bundle
        self._end = time.monotonic() + seconds
        self._offline = offline
        self._transport: Transport | None = None
        self.unasked = 0
        self.notes: list[str] = []

    @property
    def left(self) -> float:
        """Seconds; not less than 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def transport(self) -> Transport:
        """For who speaks a protocol of its own. Raises FetchError offline."""
        if self._offline:
            raise FetchError("upstream cannot be asked: klock is offline")
        if self._transport is None:
            from klock.fetching.transport import Transport

            self._transport = Transport(ca_bundle=self._ca_bundle, left=lambda: self.left)
        return self._transport

    def note(self, text: str) -> None:
        """What could not be asked, which is told once."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def all_notes(self) -> list[str]:
        """The notes, and how many questions there was no time for."""
        if not self.unasked:
            return self.notes
        late = f"{counted(self.unasked, 'question')} could not be asked in time: allow more with --timeout"
        return [*self.notes, late]

    def ask(
        self, url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", follow: bool = True
    ) -> Answer:
        """What a server says of `url`, of whatever status; with `follow`, of what a redirect leads to.

        What it said some minutes ago will do, unless it was told who asks. Raises FetchError when there is no answer,
        OutOfTime when there is no time.
        """
        headers = dict(headers or {})
        if any(name.lower() == "authorization" for name in headers):
            return self._send(url, headers, method, follow)
        key = digest_of_json([method, url, sorted(headers.items()), follow])
        known: Any = self._store.read_record(_RECORDS, key)
        before = self._answer_of(known)
        if before is not None and known is not None and 0 <= time.time() - known["asked"] < _FRESH:
            return before
        conditions = {}
        if before is not None and before.status == 200:
            pairs = (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
            conditions = {name: before.headers[header] for name, header in pairs if header in before.headers}
        answer = self._send(url, {**headers, **conditions}, method, follow)
        if answer.status == 304 and before is not None:
            answer = before
        self._keep(key, answer)
        return answer

    def each(self, ask: Callable[[T], R], things: Iterable[T]) -> list[R | KlockError]:
        """`ask` of each of `things`, several at once, in order; an error stands for what could not be asked.

        All threads have ended then, because the workshop forks.
        """
        things = list(things)
        if len(things) < 2:
            found = [self._attempt(ask, thing) for thing in things]
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(max_workers=_PARALLEL, thread_name_prefix="klock-asking") as pool:
                found = list(pool.map(lambda thing: self._attempt(ask, thing), things))
        self.unasked += sum(isinstance(each, OutOfTime) for each in found)
        return found

    def close(self) -> None:
        """Closes all idle connections."""
        if self._transport is not None:
            self._transport.close()

    def _attempt(self, ask: Callable[[T], R], thing: T) -> R | KlockError:
        try:
            return ask(thing)
        except KlockError as error:
            return error

    def _send(self, url: str, headers: Mapping[str, str], method: str, follow: bool) -> Answer:
        response = self.transport.get(url, headers, method=method, follow=follow)
        pause = response.headers.get("retry-after", "")
        if response.status in _BUSY and pause.isdecimal() and int(pause) < self.left:
            time.sleep(int(pause))
            response = self.transport.get(url, headers, method=method, follow=follow)
        return Answer(status=response.status, headers=response.headers, body=response.body)

    # -- what is remembered

    def _answer_of(self, known: Any) -> Answer | None:
        try:
            body = self._store.find_blob(known["body"]) if is_digest(known["body"]) else None
            content = b"" if known["body"] is None else body.read_bytes() if body is not None else None
            headers = {str(name): str(value) for name, value in known["headers"].items()}
            if content is None or not isinstance(known["asked"], int | float):
                return None
            return Answer(status=int(known["status"]), headers=headers, body=content)
        except (TypeError, KeyError, ValueError, AttributeError, OSError):
            return None

    def _keep(self, key: str, answer: Answer) -> None:
        if answer.status not in _KEPT_STATUSES or len(answer.body) > _LARGEST_KEPT:
            return
        body = self._store.add_bytes(answer.body, source="an answer of upstream") if answer.body else None
        headers = {name: value for name, value in answer.headers.items() if name in _KEPT_HEADERS}
        record = {"status": answer.status, "headers": headers, "body": body, "asked": time.time()}
        self._store.write_record(_RECORDS, key, record)
