"""Answers from the lockfile and the store, and nothing else: a request that is not locked is refused.

Bytes that the store lacks are fetched from upstream, if upstream has them, and verified before any is served.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from klock.errors import HashMismatch, KlockError
from klock.lockfile.model import LockedRequest
from klock.recorder.exchange import Answer, Body, Refused, Request
from klock.recorder.incoming import Truncated
from klock.recorder.locking import Question, host_in_lock, sort_key
from klock.recorder.redaction import Redaction
from klock.recorder.report import Notes, Report
from klock.recorder.upstream import Unreachable, Upstream
from klock.secrets.spans import MASK
from klock.store import Store

__all__ = ["Playback"]

_VAULT: Final = "get it from a vault with `klock vault pull DIR`"


class Playback:
    """The locked requests of a step. `upstream` is None when nothing may be fetched."""

    def __init__(
        self,
        requests: Sequence[LockedRequest],
        *,
        unknown_hosts: Sequence[str],
        store: Store,
        redaction: Redaction,
        notes: Notes,
        upstream: Upstream | None,
    ) -> None:
        self._store = store
        self._redaction = redaction
        self.notes = notes
        self._upstream = upstream
        self._unknown = frozenset(unknown_hosts)
        self._hosts = frozenset(urlsplit(request.url).hostname for request in requests)
        self._locked: dict[tuple[str, str, str | None], list[LockedRequest]] = {}
        for request in sorted(requests, key=sort_key):
            # Locked when klock knew fewer credentials, a URL may hold what is masked in the request's now.
            url = redaction.url(request.url)
            self._locked.setdefault((request.method, url, request.body), []).append(request)
        self._lock = threading.Lock()
        self._turns: dict[tuple[object, ...], int] = {}
        self._asked: dict[LockedRequest, None] = {}
        self._fetches: dict[str, threading.Lock] = {}

    def finds(self, name: str) -> bool:
        """Whether a locked request is for this host. Raises Refused for a name that was not asked for when locking."""
        name = host_in_lock(name, self._redaction)
        if name in self._hosts:
            return True
        if name in self._unknown:
            return False
        raise Refused("this name is not in the lockfile")

    def answer(self, request: Request) -> Answer:
        """The locked answer. Raises Refused."""
        for name, value in request.headers:
            self._redaction.add_header(name, value)
        locked = self._find(Question.of(request, self._redaction))
        with self._lock:
            self._asked[locked] = None
        headers = tuple(_split(header) for header in locked.headers)
        if locked.sha256 is None:
            return Answer(status=locked.status, headers=headers, size=locked.size)
        path = self._blob(locked, request)
        return Answer(
            status=locked.status,
            headers=headers,
            body=Body.of_file(path, size=locked.size, sha256=locked.sha256),
            size=locked.size,
        )

    def report(self) -> Report:
        return self.notes.report(sorted(self._asked, key=sort_key))

    def _find(self, question: Question) -> LockedRequest:
        candidates = self._locked.get(question.subject, [])
        fitting = [locked for locked in candidates if _fits(locked, question)]
        if not fitting:
            if question.body is not None and any(
                (method, url) == (question.method, question.url) for method, url, _ in self._locked
            ):
                raise Refused("not in the lockfile with this body")
            raise Refused("not in the lockfile" + (" with these headers" if candidates else ""))
        if fitting[0].turn is None:
            return fitting[0]
        first = fitting[0]
        with self._lock:
            key = (*question.subject, first.accept, first.git_protocol, first.authorized)
            turn = self._turns[key] = self._turns.get(key, 0) + 1
        for locked in fitting:
            if locked.turn == turn:
                return locked
        raise Refused(f"requested more often than the {len(fitting)} times in the lockfile")

    # -- bytes

    def _blob(self, locked: LockedRequest, request: Request) -> Path:
        digest = f"sha256:{locked.sha256}"
        path = self._store.find_blob(digest)
        if path is None:
            with self._lock:
                fetching = self._fetches.setdefault(digest, threading.Lock())
            with fetching:
                path = self._store.find_blob(digest) or self._fetch(digest, locked, request)
        if path.stat().st_size != locked.size:
            raise Refused("the store's copy of its answer is damaged; remove it with `klock cache clean`")
        return path

    def _fetch(self, digest: str, locked: LockedRequest, request: Request) -> Path:
        if locked.private or locked.method != "GET" or MASK in locked.url:
            raise Refused(f"the store lacks its answer, which cannot be fetched again; {_VAULT}")
        if self._upstream is None:
            raise Refused(f"the store lacks its answer, and klock is offline; {_VAULT}")
        try:
            incoming = self._upstream.fetch(request)
        except Unreachable as error:
            raise Refused(f"the store lacks its answer, and {error}; {_VAULT}") from error
        try:
            if incoming.status != locked.status:
                raise Refused(f"the store lacks its answer, and upstream answers {incoming.status} now; {_VAULT}")
            self._store.add_blob(incoming.chunks(), digest=digest, size=locked.size, source=locked.url)
        except HashMismatch as error:
            raise Refused(f"the store lacks its answer, and upstream serves other bytes now; {_VAULT}") from error
        except Truncated as error:
            raise Refused(f"the store lacks its answer, and upstream failed: {error}") from error
        except KlockError as error:
            raise Refused(error.message) from error
        finally:
            incoming.close()
        return self._store.blob_path(digest)


def _fits(locked: LockedRequest, question: Question) -> bool:
    return (
        locked.accept in (None, question.accept)
        and locked.git_protocol in (None, question.git_protocol)
        and locked.authorized in (None, question.authorized)
    )


def _split(header: str) -> tuple[str, str]:
    name, _, value = header.partition(":")
    return name, value.strip()
