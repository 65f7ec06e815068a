"""What the recorder tells klock when a step has ended, and the notes it takes until then, from many threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import field
from typing import Final

from klock.lockfile.model import LockedRequest
from klock.recorder.exchange import Request
from klock.recorder.reach import Links
from klock.recorder.redaction import Redaction
from klock.values import dataclass

__all__ = ["Notes", "Report"]

_MOST_SENTENCES: Final = 1000
_LONGEST_SENTENCE: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a step did on the network.

    `requests`: recording, what to lock, sorted; replaying, the locked requests that were asked for. `unknown_hosts`:
    names that have no address (recording only), sorted. `refused`: one sentence for each thing that was not let
    through, sorted, unique, without secrets; when there is any, the step has failed. `ports`: TCP ports that were tried
    on hosts known by name and not listened on; the caller may run the step again with them. `private`: values met in
    private answers and in the headers of requests, for masks and the search for leaks. `upstream`: requests that went
    upstream; `received`: bytes of bodies that came from there. `links`: what pages that were passed on link to, where
    that limits what may be asked for.
    """

    requests: tuple[LockedRequest, ...] = ()
    unknown_hosts: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    private: tuple[str, ...] = field(default=(), repr=False)
    upstream: int = 0
    received: int = 0
    links: Links | None = field(default=None, repr=False)


class Notes:
    """Notes taken while serving. Sentences are masked when they are read, with all secrets known by then."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._lock = threading.Lock()
        self._refused: dict[str, None] = {}
        self._ports: set[int] = set()
        self._failures: list[str] = []
        self._upstream = 0
        self._received = 0

    def refuse(self, sentence: str) -> None:
        """Notes something that was not let through."""
        with self._lock:
            if len(self._refused) < _MOST_SENTENCES:
                self._refused[sentence] = None
            elif len(self._refused) == _MOST_SENTENCES:
                self._refused[f"more than {_MOST_SENTENCES} different things"] = None

    def refuse_request(self, request: Request, reason: str) -> str:
        """Notes a request that was not let through; returns the sentence, fit to be shown."""
        sentence = f"{request.method} {self._redaction.url(request.url)}: {reason}"
        self.refuse(sentence)
        return self._shown(sentence)

    def fail(self, error: BaseException, doing: str) -> None:
        """Notes that klock itself failed. The step then ends with an error: klock must not lock what it did not see."""
        with self._lock:
            self._failures.append(f"{doing}: {type(error).__name__}: {error}")

    def try_port(self, port: int) -> None:
        """Notes a TCP port of a host known by name, where nothing listens."""
        with self._lock:
            self._ports.add(port)

    def count_request(self) -> None:
        with self._lock:
            self._upstream += 1

    def count_bytes(self, size: int) -> None:
        with self._lock:
            self._received += size

    @property
    def failures(self) -> tuple[str, ...]:
        """How klock itself failed, without secrets."""
        with self._lock:
            return tuple(self._shown(failure) for failure in self._failures)

    def report(
        self,
        requests: Sequence[LockedRequest],
        *,
        refused: Sequence[str] = (),
        unknown_hosts: Sequence[str] = (),
        links: Links | None = None,
    ) -> Report:
        """The report of a step that made `requests`; `refused` are sentences besides those noted."""
        with self._lock:
            return Report(
                requests=tuple(requests),
                unknown_hosts=tuple(sorted(unknown_hosts)),
                refused=tuple(sorted({self._shown(sentence) for sentence in (*self._refused, *refused)})),
                ports=tuple(sorted(self._ports)),
                private=self._redaction.values,
                upstream=self._upstream,
                received=self._received,
                links=links,
            )

    def _shown(self, sentence: str) -> str:
        # Masked before it is cut: half of a secret would not be found.
        text = self._redaction.mask(sentence.encode("utf-8", "replace")).decode("utf-8", "replace")
        text = "".join(character if character.isprintable() else "?" for character in text)
        return text if len(text) <= _LONGEST_SENTENCE else text[: _LONGEST_SENTENCE - 3] + "..."
