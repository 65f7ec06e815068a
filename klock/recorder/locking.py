"""From what a step asked, in order, to what is locked: one request a line, told apart only where answers differ.

Most URLs have one answer, whoever asks, and are locked so. Where there are several, what tells the requests apart is
tried, the fewest things first: whether they carried credentials, what they accept, git's protocol version. If nothing
does, the answers are given in the order in which they came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from itertools import combinations
from typing import Any, Final
from urllib.parse import urlsplit

from klock.lockfile.model import LockedRequest
from klock.recorder.exchange import Request
from klock.recorder.redaction import Redaction
from klock.values import dataclass

__all__ = ["Asked", "LockedAnswer", "Question", "host_in_lock", "lock_requests", "sort_key"]

_DISCRIMINATORS: Final = ("authorized", "accept", "git_protocol")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedAnswer:
    """An answer as it is locked; the fields are those of LockedRequest."""

    status: int
    size: int
    sha256: str | None = None
    headers: tuple[str, ...] = ()
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked again when a step is replayed. `body` is the SHA-256 (hex) of the body without known secrets."""

    method: str
    url: str
    body: str | None
    accept: str
    git_protocol: str
    authorized: bool

    @classmethod
    def of(cls, request: Request, redaction: Redaction) -> Question:
        body = request.body
        if body:
            # The line between the parts of a form is a random one in every run.
            if framing := request.body_framing:
                body = body.replace(framing, b"***")
            body = redaction.mask(body)
        return cls(
            method=request.method,
            url=redaction.url(request.url),
            body=hashlib.sha256(body).hexdigest() if body else None,
            accept=redaction.mask(request.accept.encode("latin-1")).decode("latin-1"),
            git_protocol=redaction.mask(request.git_protocol.encode("latin-1")).decode("latin-1"),
            authorized=request.authorized,
        )

    @property
    def subject(self) -> tuple[str, str, str | None]:
        """What two requests must always share to count as the same question."""
        return self.method, self.url, self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question and the answer it got."""

    question: Question = field(repr=False)
    answer: LockedAnswer


def lock_requests(asked: Iterable[Asked]) -> tuple[LockedRequest, ...]:
    """The requests to lock, sorted. `asked` is in the order in which it was asked."""
    groups: dict[tuple[str, str, str | None], list[Asked]] = {}
    for one in asked:
        groups.setdefault(one.question.subject, []).append(one)
    return tuple(sorted((locked for group in groups.values() for locked in _lock_group(group)), key=sort_key))


def sort_key(request: LockedRequest) -> tuple[Any, ...]:
    """The order of requests in a lockfile."""
    return (
        request.url,
        request.method,
        request.body or "",
        request.authorized or False,
        request.accept or "",
        request.git_protocol or "",
        request.turn or 0,
    )


def host_in_lock(name: str, redaction: Redaction) -> str:
    """A host name as it stands in locked URLs: without secrets."""
    return urlsplit(redaction.url(f"http://{name}/")).hostname or name


def _lock_group(group: Sequence[Asked]) -> Iterator[LockedRequest]:
    for count in range(len(_DISCRIMINATORS) + 1):
        for names in combinations(_DISCRIMINATORS, count):
            classes = _classes(group, names)
            if all(len({one.answer for one in members}) == 1 for members in classes.values()):
                for members in classes.values():
                    yield _locked(members[0], names)
                return
    names = tuple(name for name in _DISCRIMINATORS if len({getattr(one.question, name) for one in group}) > 1)
    for members in _classes(group, names).values():
        if len({one.answer for one in members}) == 1:
            yield _locked(members[0], names)
        else:
            for turn, one in enumerate(members, start=1):
                yield _locked(one, names, turn)


def _classes(group: Sequence[Asked], names: Sequence[str]) -> dict[tuple[object, ...], list[Asked]]:
    classes: dict[tuple[object, ...], list[Asked]] = {}
    for one in group:
        classes.setdefault(tuple(getattr(one.question, name) for name in names), []).append(one)
    return classes


def _locked(asked: Asked, names: Sequence[str], turn: int | None = None) -> LockedRequest:
    question, answer = asked.question, asked.answer
    return LockedRequest(
        method=question.method,
        url=question.url,
        status=answer.status,
        size=answer.size,
        sha256=answer.sha256,
        headers=answer.headers,
        body=question.body,
        accept=question.accept if "accept" in names else None,
        git_protocol=question.git_protocol if "git_protocol" in names else None,
        authorized=question.authorized if "authorized" in names else None,
        turn=turn,
        private=answer.private,
    )
