"""Every request of a recorded step, in order, and its outcome."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import field

from klock.recorder.exchange import Answer, Request
from klock.recorder.locking import LockedAnswer, Question
from klock.values import dataclass

__all__ = ["Exchange", "Transcript"]


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange:
    """What became of a request. `locked` is None until the whole body is here, or `problem` says why it never will.

    `answer` is what others get who ask the same. `stand_in` is stored instead of its body, which is private. `key` is
    equal for requests that get one answer; None for one that always gets its own.
    """

    key: object | None
    answer: Answer | None = None
    locked: LockedAnswer | None = None
    stand_in: bytes | None = None
    problem: str | None = None
    begun: threading.Event = field(default_factory=threading.Event)


class Transcript:
    """GET and HEAD are asked once: later ones, and those that come while the first is under way, get the same answer.

    Any thread may call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[tuple[Question, Exchange]] = []
        self._known: dict[object, Exchange] = {}

    @property
    def asked(self) -> Sequence[tuple[Question, Exchange]]:
        """Each request, in the order in which it was made; those that got one answer share an exchange."""
        with self._lock:
            return tuple(self._asked)

    def begin(self, request: Request, question: Question) -> Exchange | Answer:
        """A new exchange, which the caller must settle or give up; or the answer of one that asked the same."""
        key = _key(request) if request.is_safe else None
        while True:
            with self._lock:
                known = self._known.get(key) if key is not None else None
                if known is None:
                    new = Exchange(key=key)
                    self._asked.append((question, new))
                    if key is not None:
                        self._known[key] = new
                    return new
            known.begun.wait()
            # A failed answer is not shared: this request goes upstream itself.
            if known.problem is None and known.answer is not None:
                with self._lock:
                    self._asked.append((question, known))
                return known.answer

    def settle(self, exchange: Exchange, answer: Answer) -> None:
        """Shares `answer` with requests that are the same."""
        exchange.answer = answer
        exchange.begun.set()

    def give_up(self, exchange: Exchange, problem: str) -> None:
        """Marks an exchange as one that cannot be locked; the next request that is the same goes upstream again."""
        exchange.problem = problem
        with self._lock:
            if exchange.key is not None and self._known.get(exchange.key) is exchange:
                del self._known[exchange.key]
        exchange.begun.set()


def _key(request: Request) -> object:
    cookies = request.header("cookie")
    return request.method, request.url, request.body, request.accept, request.git_protocol, request.credentials, cookies
