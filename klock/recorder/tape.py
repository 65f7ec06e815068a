"""Recording: asks upstream, serves what comes as it comes, and keeps what the lockfile needs.

GET and HEAD are asked once: later ones, and those that come while the first is under way, get the same answer. Until
the step has ended, bodies are files of a folder that is thrown away; only what is locked goes into the store. Answers
that hold credentials never become files: they stay in memory, and a stand-in is stored.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from klock.recorder.downloads import Download, wait_for
from klock.recorder.exchange import Answer, Body, Refused, Request
from klock.recorder.headers import KEPT, fit_value, kept_headers
from klock.recorder.locking import Asked, LockedAnswer, Question, host_in_lock, lock_requests
from klock.recorder.redaction import Redaction, TooManyTexts
from klock.recorder.report import Notes, Report
from klock.recorder.upstream import Incoming, Truncated, Unreachable, Upstream
from klock.store import Store
from klock.workshop import linux

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = ["Tape"]

_IN_MEMORY: Final = 1 << 20
_LONGEST_PRIVATE: Final = 64 << 20
_NEVER_LOCKED: Final = frozenset({408, 425, 429})
_KEPT: Final = frozenset(header.name.lower() for header in KEPT)
# What a client may need while it talks to upstream, and no replay has: cookies, and how long to wait.
_PASSED: Final = frozenset({"set-cookie", "retry-after"})
# What is said of a body, and does not hold for its stand-in.
_OF_THE_BODY: Final = frozenset(
    {"content-encoding", "content-md5", "content-digest", "repr-digest", "digest", "x-goog-hash"}
    | {"x-checksum-md5", "x-checksum-sha1", "x-checksum-sha256"}
)
_ONLY_A_NAME: Final = (
    "its address was looked up, and no request came that could be locked (programs that do not trust the certificates "
    "in SSL_CERT_FILE give up so)"
)
_LEAK: Final = (
    "its answer holds a secret of the step; name its URL, run_bash(..., private_urls=[...]), so that it is never stored"
)
_LATE: Final = "it holds a secret that was not known for one before it was used elsewhere"


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """What became of a request. `locked` is None until the whole body is here, or `problem` says why it never will."""

    begun: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    locked: LockedAnswer | None = None
    stand_in: bytes | None = None
    problem: str | None = None


class Tape:
    """Everything a step asked, in order. Any thread may ask. `folder` is empty, and thrown away by its maker."""

    def __init__(self, *, store: Store, folder: Path, upstream: Upstream, redaction: Redaction, notes: Notes) -> None:
        self._store = store
        self._folder = folder
        self._upstream = upstream
        self._redaction = redaction
        self._notes = notes
        self._lock = threading.Lock()
        self._files = count()
        self._asked: list[tuple[Question, _Exchange]] = []
        self._memory: dict[object, _Exchange] = {}
        self._downloads: list[Download] = []
        self._names: dict[str, bool] = {}

    def finds(self, name: str) -> bool:
        """Whether the name has an address. Raises Refused when nobody can say, or it leads where no step may go."""
        found = self._upstream.has_name(name)
        with self._lock:
            self._names[host_in_lock(name, self._redaction)] = found
        return found

    def answer(self, request: Request) -> Answer:
        """What upstream answers. Raises Refused when it does not."""
        for name, value in request.headers:
            self._redaction.add_header(name, value)
        self._redaction.add_url(request.url)
        question = Question.of(request, self._redaction)
        key = _memory_key(request) if request.is_safe else None
        while True:
            with self._lock:
                known = self._memory.get(key) if key is not None else None
                exchange = known or _Exchange()
                if known is None:
                    self._asked.append((question, exchange))
                    if key is not None:
                        self._memory[key] = exchange
            if known is None:
                return self._record(request, exchange, key, question)
            known.begun.wait()
            # One that failed was its asker's: this one asks for itself.
            if known.problem is None and known.answer is not None:
                with self._lock:
                    self._asked.append((question, known))
                return known.answer

    def report(self) -> Report:
        """Waits for what is still coming in, puts what is locked into the store, and says what to lock."""
        wait_for(self._downloads)
        self._search_again()
        requests = lock_requests(Asked(question=question, answer=answer) for question, answer in self._good())
        self._keep({request.sha256 for request in requests if request.sha256 is not None})
        hosts = {urlsplit(request.url).hostname for request in requests}
        refused = self._problems()
        shown = self._notes.report([], refused=refused).refused
        for name, found in self._names.items():
            if found and name not in hosts and not any(name in sentence for sentence in shown):
                refused.append(f"{name}: {_ONLY_A_NAME}")
        unknown = [name for name, found in self._names.items() if not found]
        return self._notes.report(requests, refused=refused, unknown_hosts=unknown)

    # -- one request

    def _record(self, request: Request, exchange: _Exchange, key: object, question: Question) -> Answer:
        try:
            incoming = self._upstream.fetch(request)
        except Refused as refused:
            self._give_up(exchange, key, str(refused))
            raise
        except Unreachable as error:
            return self._without_answer(exchange, key, str(error))
        downloading = False
        try:
            if request.method == "HEAD":
                return self._take_head(incoming, exchange, key)
            is_private = self._redaction.is_private(question.url)
            limit = _LONGEST_PRIVATE if is_private else _IN_MEMORY
            so_far = hashlib.sha256()
            chunks = incoming.chunks(so_far.digest)
            beginning = bytearray()
            for chunk in chunks:
                so_far.update(chunk)
                beginning += chunk
                if len(beginning) > limit:
                    break
            else:
                return self._take_whole(incoming, bytes(beginning), exchange, key, is_private=is_private)
            if is_private:
                return self._without_answer(exchange, key, f"its answer is private and over {limit >> 20} MiB long")
            downloading = True
            return self._download(incoming, bytes(beginning), chunks, so_far, exchange=exchange, key=key)
        except Truncated as error:
            return self._without_answer(exchange, key, str(error))
        except BaseException as error:
            self._give_up(exchange, key, f"klock failed: {type(error).__name__}")
            raise
        finally:
            if not downloading:
                incoming.close()

    def _take_head(self, incoming: Incoming, exchange: _Exchange, key: object) -> Answer:
        # A HEAD has no body whose hash could be the tag, and clients name files after it.
        tag = [("ETag", tag)] if (tag := fit_value(incoming.header("etag"))) else []
        self._settle(
            exchange,
            key,
            incoming,
            Answer(status=incoming.status, headers=(*_passed(incoming), *tag), size=incoming.size),
        )
        if exchange.problem is None:
            headers = (*self._kept(incoming), *(f"{name}: {value}" for name, value in tag))
            exchange.locked = LockedAnswer(
                status=incoming.status, size=incoming.size or 0, headers=tuple(sorted(headers))
            )
        assert exchange.answer is not None
        return exchange.answer

    def _take_whole(
        self, incoming: Incoming, content: bytes, exchange: _Exchange, key: object, *, is_private: bool
    ) -> Answer:
        """An answer that came as a whole before any of it is passed on."""
        content_type = incoming.header("content-type")
        readable = _readable(content, incoming.header("content-encoding"))
        is_private = is_private or self._redaction.holds_token(readable, content_type)
        try:
            stored = self._redaction.stand_in(readable, content_type) if is_private and content else content
        except TooManyTexts as error:
            return self._without_answer(exchange, key, str(error))
        leaks = not is_private and (self._redaction.find_secret(content) or self._redaction.find_secret(readable))
        body = Body.of_bytes(content) if content else None
        answer = Answer(status=incoming.status, headers=_passed(incoming), body=body)
        later = answer
        if stored and not is_private and not leaks:
            path = self._new_file()
            path.write_bytes(stored)
            sha256 = hashlib.sha256(stored).hexdigest()
            later = Answer(
                status=incoming.status,
                headers=answer.headers,
                body=Body.of_file(path, size=len(stored), sha256=sha256),
            )
        elif is_private:
            exchange.stand_in = stored
        self._settle(exchange, key, incoming, later, problem=_LEAK if leaks else None)
        if exchange.problem is None:
            exchange.locked = LockedAnswer(
                status=incoming.status,
                size=len(stored),
                sha256=hashlib.sha256(stored).hexdigest() if stored else None,
                headers=self._kept(incoming, without=_OF_THE_BODY if is_private else frozenset()),
                private=is_private,
            )
        return answer

    def _download(
        self,
        incoming: Incoming,
        beginning: bytes,
        chunks: Iterator[bytes],
        so_far: Hash,
        *,
        exchange: _Exchange,
        key: object,
    ) -> Answer:
        """Passes a long answer on while it comes in, at its own pace: clients may be slow, leave, or come later."""
        body = Body(path=self._new_file(), size=incoming.size)
        assert body.path is not None
        body.path.touch()
        answer = Answer(status=incoming.status, headers=_passed(incoming), body=body)

        def give_up(problem: str) -> None:
            self._give_up(exchange, key, problem)
            body.break_off()

        def download() -> None:
            try:
                size = self._write(body, beginning, chunks, so_far)
                sha256 = so_far.hexdigest()
                if exchange.problem is None:
                    exchange.locked = LockedAnswer(
                        status=incoming.status, size=size, sha256=sha256, headers=self._kept(incoming)
                    )
                body.complete(sha256)
            except (Truncated, _Leak, OSError) as error:
                give_up(str(error) or type(error).__name__)
            except BaseException as error:
                self._notes.fail(error, "recording an answer")
                body.break_off()
            finally:
                incoming.close()

        thread = threading.Thread(target=download, name="klock-recorder-download", daemon=True)
        with self._lock:
            self._downloads.append(Download(thread=thread, body=body, give_up=give_up))
        self._settle(exchange, key, incoming, answer)
        thread.start()
        return answer

    def _write(self, body: Body, beginning: bytes, chunks: Iterator[bytes], so_far: Hash) -> int:
        """Writes all of a body into its file; returns its size. Raises _Leak when it holds a known secret."""
        assert body.path is not None
        size = 0
        overlap = b""
        with open(body.path, "wb") as file:
            for chunk in chain([beginning], chunks):
                if size:
                    so_far.update(chunk)
                if self._redaction.find_secret(overlap + chunk):
                    file.truncate(0)
                    raise _Leak(_LEAK)
                overlap = (overlap + chunk)[-self._redaction.longest :]
                file.write(chunk)
                file.flush()
                size += len(chunk)
                body.advance(size)
        return size

    def _without_answer(self, exchange: _Exchange, key: object, problem: str) -> Answer:
        self._give_up(exchange, key, problem)
        return Answer.of_text(502, problem)

    def _settle(
        self, exchange: _Exchange, key: object, incoming: Incoming, answer: Answer, *, problem: str | None = None
    ) -> None:
        """Gives an exchange its answer, and lets those who wait for it have it too, unless it may not be locked."""
        if incoming.status >= 500 or incoming.status in _NEVER_LOCKED:
            problem = f"upstream answered {incoming.status}"
        exchange.answer = answer
        if problem is not None:
            self._give_up(exchange, key, problem)
        exchange.begun.set()

    def _give_up(self, exchange: _Exchange, key: object, problem: str) -> None:
        """Marks an exchange as one that cannot be locked; the next one who asks the same asks upstream again."""
        exchange.problem = problem
        with self._lock:
            if self._memory.get(key) is exchange:
                del self._memory[key]
        exchange.begun.set()

    def _kept(self, incoming: Incoming, *, without: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """The headers to lock. What is secret in the others is kept in mind, to be searched for."""
        for name, value in incoming.headers:
            self._redaction.add_header(name, value)
        if location := incoming.header("location"):
            self._redaction.add_url(location)
        headers = ((name, value) for name, value in incoming.headers if name.lower() not in without)
        return kept_headers(headers, self._redaction)

    def _new_file(self) -> Path:
        return self._folder / str(next(self._files))

    # -- the end

    def _search_again(self) -> None:
        """Gives up what holds a secret that was met only later, as a token that was fetched and then used."""
        if not self._redaction.values:
            return
        for question, exchange in self._asked:
            if exchange.problem is None and exchange.locked is not None:
                texts = (question.url, question.accept, question.git_protocol, *exchange.locked.headers)
                if self._redaction.find_secret("\n".join(texts).encode("utf-8", "surrogatepass")):
                    exchange.problem = _LATE
            body = exchange.answer.body if exchange.answer is not None else None
            if exchange.problem is None and exchange.stand_in is None and body is not None and body.path is not None:
                overlap = b""
                with open(body.path, "rb") as file:
                    while chunk := file.read(_IN_MEMORY):
                        if self._redaction.find_secret(overlap + chunk):
                            exchange.problem = _LEAK
                            break
                        overlap = (overlap + chunk)[-self._redaction.longest :]

    def _good(self) -> Iterator[tuple[Question, LockedAnswer]]:
        for question, exchange in self._asked:
            if exchange.locked is not None and exchange.problem is None:
                yield question, exchange.locked

    def _problems(self) -> list[str]:
        """A sentence for each request that has no answer to lock, and got none when it was made again later."""
        good_later: set[tuple[str, str, str | None]] = set()
        sentences = []
        for question, exchange in reversed(self._asked):
            if exchange.problem is None:
                good_later.add(question.subject)
            elif question.subject not in good_later:
                sentences.append(f"{question.method} {question.url}: {exchange.problem}")
        return sentences

    def _keep(self, wanted: set[str]) -> None:
        """Moves the bodies that are locked into the store. One sync for all of them is faster than one for each."""
        linux.sync_file_system(os.fspath(self._folder))
        for _, exchange in self._asked:
            sha256 = exchange.locked.sha256 if exchange.locked is not None else None
            if sha256 is None or sha256 not in wanted:
                continue
            wanted.discard(sha256)
            digest = f"sha256:{sha256}"
            if self._store.find_blob(digest) is not None:
                continue
            if exchange.stand_in is not None:
                self._store.add_bytes(exchange.stand_in, digest=digest)
            elif exchange.answer is not None and exchange.answer.body is not None:
                assert exchange.answer.body.path is not None
                blob = self._store.blob_path(digest)
                blob.parent.mkdir(parents=True, exist_ok=True)
                exchange.answer.body.path.replace(blob)


class _Leak(Exception):
    """A body holds a known secret."""


def _memory_key(request: Request) -> object:
    """What must be equal for two requests to get one answer while recording."""
    cookies = request.header("cookie")
    return request.method, request.url, request.body, request.accept, request.git_protocol, request.credentials, cookies


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
