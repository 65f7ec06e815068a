"""Recording: asks upstream, serves what comes as it comes, and keeps what the lockfile needs.

Until the step has ended, bodies are files of a folder that is thrown away; only what is locked goes into the store.
Answers that hold credentials never become files: they stay in memory, and a stand-in is stored.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Final

from klock.recorder.conclusion import conclude
from klock.recorder.downloads import LEAK, Downloads
from klock.recorder.exchange import Answer, Body, Refused, Request
from klock.recorder.headers import KEPT, fit_value, kept_headers
from klock.recorder.incoming import Incoming, Truncated
from klock.recorder.locking import LockedAnswer, Question, host_in_lock
from klock.recorder.redaction import Redaction, TooManyTexts
from klock.recorder.report import Notes, Report
from klock.recorder.transcript import Exchange, Transcript
from klock.recorder.upstream import Unreachable, Upstream
from klock.store import Store

__all__ = ["Capture"]

_IN_MEMORY: Final = 1 << 20
_LONGEST_PRIVATE: Final = 64 << 20
_NEVER_LOCKED: Final = frozenset({408, 425, 429})
_KEPT: Final = frozenset(header.name.lower() for header in KEPT)
# What a client may need while it talks to upstream, and no replay has: cookies, and how long to wait.
_PASSED: Final = frozenset({"set-cookie", "retry-after"})
# Headers about a body, which are wrong for its stand-in.
_OF_THE_BODY: Final = frozenset(
    {"content-encoding", "content-md5", "content-digest", "repr-digest", "digest", "x-goog-hash"}
    | {"x-checksum-md5", "x-checksum-sha1", "x-checksum-sha256"}
)


class Capture:
    """Answers a step's requests from upstream. Any thread may ask. `folder` is empty, and thrown away by its maker."""

    def __init__(self, *, store: Store, folder: Path, upstream: Upstream, redaction: Redaction, notes: Notes) -> None:
        self.notes = notes
        self._store = store
        self._folder = folder
        self._upstream = upstream
        self._redaction = redaction
        self._files = count()
        self._transcript = Transcript()
        self._downloads = Downloads(redaction=redaction, notes=notes)
        self._names_lock = threading.Lock()
        self._names: dict[str, bool] = {}

    def finds(self, name: str) -> bool:
        """Whether the name has an address. Raises Refused when no name server answers, or the address is forbidden."""
        found = self._upstream.has_name(name)
        with self._names_lock:
            self._names[host_in_lock(name, self._redaction)] = found
        return found

    def answer(self, request: Request) -> Answer:
        """Upstream's answer. Raises Refused when there is none."""
        for name, value in request.headers:
            self._redaction.add_header(name, value)
        self._redaction.add_url(request.url)
        question = Question.of(request, self._redaction)
        begun = self._transcript.begin(request, question)
        return begun if isinstance(begun, Answer) else self._carry_out(request, begun, question)

    def report(self) -> Report:
        """Waits for bodies that are still arriving, puts what is locked into the store, and returns what to lock."""
        self._downloads.wait()
        with self._names_lock:
            names = dict(self._names)
        return conclude(
            self._transcript.asked,
            names=names,
            folder=self._folder,
            store=self._store,
            redaction=self._redaction,
            notes=self.notes,
        )

    # -- one request

    def _carry_out(self, request: Request, exchange: Exchange, question: Question) -> Answer:
        try:
            incoming = self._upstream.fetch(request)
        except Refused as refused:
            self._transcript.give_up(exchange, str(refused))
            raise
        except Unreachable as error:
            return self._without_answer(exchange, str(error))
        downloading = False
        try:
            if request.method == "HEAD":
                return self._take_head(incoming, exchange)
            is_private = self._redaction.is_private(question.url)
            limit = _LONGEST_PRIVATE if is_private else _IN_MEMORY
            chunks = incoming.chunks()
            beginning = bytearray()
            for chunk in chunks:
                beginning += chunk
                if len(beginning) > limit:
                    break
            else:
                return self._take_whole(incoming, bytes(beginning), exchange, is_private=is_private)
            if is_private:
                return self._without_answer(exchange, f"its answer is private and over {limit >> 20} MiB long")
            body = Body(path=self._new_file(), size=incoming.size)
            answer = Answer(status=incoming.status, headers=_passed(incoming), body=body)
            downloading = True
            self._settle(exchange, incoming, answer)
            self._download(incoming, chain([bytes(beginning)], chunks), body, exchange)
            return answer
        except Truncated as error:
            return self._without_answer(exchange, str(error))
        except BaseException as error:
            self._transcript.give_up(exchange, f"klock failed: {type(error).__name__}")
            raise
        finally:
            if not downloading:
                incoming.close()

    def _take_head(self, incoming: Incoming, exchange: Exchange) -> Answer:
        # A HEAD has no body whose hash could be the tag, and clients name files after it.
        tag = [("ETag", tag)] if (tag := fit_value(incoming.header("etag"))) else []
        answer = Answer(status=incoming.status, headers=(*_passed(incoming), *tag), size=incoming.size)
        self._settle(exchange, incoming, answer)
        if exchange.problem is None:
            headers = (*self._kept(incoming), *(f"{name}: {value}" for name, value in tag))
            size = incoming.size or 0
            exchange.locked = LockedAnswer(status=incoming.status, size=size, headers=tuple(sorted(headers)))
        return answer

    def _take_whole(self, incoming: Incoming, content: bytes, exchange: Exchange, *, is_private: bool) -> Answer:
        """An answer that came as a whole before any of it is passed on."""
        content_type = incoming.header("content-type")
        readable = _readable(content, incoming.header("content-encoding"))
        is_private = is_private or self._redaction.holds_token(readable, content_type)
        try:
            stored = self._redaction.stand_in(readable, content_type) if is_private and content else content
        except TooManyTexts as error:
            return self._without_answer(exchange, str(error))
        leaks = not is_private and (self._redaction.find_secret(content) or self._redaction.find_secret(readable))
        sha256 = hashlib.sha256(stored).hexdigest() if stored else None
        body = Body.of_bytes(content) if content else None
        answer = Answer(status=incoming.status, headers=_passed(incoming), body=body)
        later = answer
        if is_private:
            exchange.stand_in = stored
        elif sha256 is not None and not leaks:
            path = self._new_file()
            path.write_bytes(stored)
            on_disk = Body.of_file(path, size=len(stored), sha256=sha256)
            later = Answer(status=incoming.status, headers=answer.headers, body=on_disk)
        self._settle(exchange, incoming, later, problem=LEAK if leaks else None)
        if exchange.problem is None:
            exchange.locked = LockedAnswer(
                status=incoming.status,
                size=len(stored),
                sha256=sha256,
                headers=self._kept(incoming, without=_OF_THE_BODY if is_private else frozenset()),
                private=is_private,
            )
        return answer

    def _download(self, incoming: Incoming, chunks: Iterator[bytes], body: Body, exchange: Exchange) -> None:
        def lock(size: int, sha256: str) -> None:
            if exchange.problem is None:
                headers = self._kept(incoming)
                exchange.locked = LockedAnswer(status=incoming.status, size=size, sha256=sha256, headers=headers)

        def give_up(problem: str) -> None:
            self._transcript.give_up(exchange, problem)

        self._downloads.start(incoming, chunks, body, on_whole=lock, on_problem=give_up)

    def _without_answer(self, exchange: Exchange, problem: str) -> Answer:
        self._transcript.give_up(exchange, problem)
        return Answer.of_text(502, problem)

    def _settle(self, exchange: Exchange, incoming: Incoming, answer: Answer, *, problem: str | None = None) -> None:
        """Reuses `answer` for later requests that are the same, unless it may not be locked."""
        if incoming.status >= 500 or incoming.status in _NEVER_LOCKED:
            problem = f"upstream answered {incoming.status}"
        if problem is not None:
            self._transcript.give_up(exchange, problem)
        self._transcript.settle(exchange, answer)

    def _kept(self, incoming: Incoming, *, without: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """The headers to lock. What is secret in the others is kept in mind, to be searched for."""
        for name, value in incoming.headers:
            self._redaction.add_header(name, value)
        if location := incoming.header("location"):
            self._redaction.add_url(location)
        headers = ((name, value) for name, value in incoming.headers if name.lower() not in without)
        return kept_headers(headers, self._redaction)

    def _new_file(self) -> Path:
        path = self._folder / str(next(self._files))
        path.touch()
        return path


def _passed(incoming: Incoming) -> tuple[tuple[str, str], ...]:
    """The headers that the client gets: those it gets when replayed too, and the few that only upstream needs."""
    return tuple((name, fit_value(value)) for name, value in incoming.headers if name.lower() in _KEPT | _PASSED)


def _readable(content: bytes, encoding: str) -> bytes:
    """The body as a client reads it, as far as it is looked through for tokens and secrets."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return content
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(content, _IN_MEMORY)
    except zlib.error:
        return content
