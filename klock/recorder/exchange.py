"""A request, its answer, and the answer's body, which may still be on its way when it is first served."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from klock.secrets.vocabulary import credential_name
from klock.values import dataclass

__all__ = ["PATIENCE", "Answer", "Body", "BrokenBody", "Passing", "Refused", "Request", "Source"]

PATIENCE: Final = 30.0
"""Seconds that upstream has for an answer that is not there yet when the step has ended."""

_SAFE: Final = frozenset({"GET", "HEAD"})
_NEVER_CREDENTIALS: Final = frozenset({"cookie", "proxy-authorization"})


class Refused(Exception):
    """A request is refused. The text says why, and names neither the request nor a secret."""


class BrokenBody(Exception):
    """The rest of a body will never arrive."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as the client made it. `url` is the real one: it may hold secrets. `headers` in the client's order."""

    method: str
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """The values of all headers of this name (lower case), joined by commas; None when there is none."""
        values = [value for own, value in self.headers if own.lower() == name]
        return ", ".join(values) if values else None

    @property
    def is_safe(self) -> bool:
        """Whether it may be answered twice with one answer (RFC 9110, 9.2.1)."""
        return self.method in _SAFE

    @cached_property
    def accept(self) -> str:
        return self.header("accept") or ""

    @cached_property
    def git_protocol(self) -> str:
        return self.header("git-protocol") or ""

    @cached_property
    def credentials(self) -> tuple[tuple[str, str], ...]:
        """The headers that say who asks, such as Authorization and Private-Token, in lower case.

        Cookies are none of them: what is locked sets none, so no replay has any.
        """
        return tuple((name.lower(), value) for name, value in self.headers if _says_who_asks(name.lower()))

    @cached_property
    def authorized(self) -> bool:
        """Whether it carried credentials."""
        return bool(self.credentials)

    @cached_property
    def body_framing(self) -> bytes | None:
        """The random line between the parts of a multipart body (RFC 2046, 5.1.1)."""
        content_type = self.header("content-type") or ""
        if not content_type.lower().startswith("multipart/"):
            return None
        for parameter in content_type.split(";")[1:]:
            name, _, value = parameter.strip().partition("=")
            if name.lower() == "boundary" and value.strip('"'):
                return value.strip('"').encode("latin-1")
        return None


class Body:
    """Bytes in a file or in memory. One thread makes them arrive, any number of others read them meanwhile.

    `size` is None until it is known, `sha256` (hex) until all is there.
    """

    def __init__(self, *, path: Path | None = None, size: int | None = None) -> None:
        self.path = path
        self.content: bytes | None = None
        self.size = size
        self.sha256: str | None = None
        self._arrived = 0
        self._broken = False
        self._changed = threading.Condition()

    @classmethod
    def of_bytes(cls, content: bytes) -> Body:
        body = cls(size=len(content))
        body.content = content
        body._arrived = len(content)
        body.sha256 = hashlib.sha256(content).hexdigest()
        return body

    @classmethod
    def of_file(cls, path: Path, *, size: int, sha256: str) -> Body:
        body = cls(path=path, size=size)
        body._arrived = size
        body.sha256 = sha256
        return body

    def advance(self, arrived: int) -> None:
        """Sets how many bytes are there."""
        with self._changed:
            self._arrived = arrived
            self._changed.notify_all()

    def complete(self, sha256: str) -> None:
        """Marks the body as complete."""
        with self._changed:
            self.size = self._arrived
            self.sha256 = sha256
            self._changed.notify_all()

    @property
    def size_so_far(self) -> int:
        """How many bytes are there by now."""
        with self._changed:
            return self._arrived

    def break_off(self) -> None:
        """Marks the body as broken: no more bytes will come."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def arrived(self, beyond: int) -> int:
        """How many bytes are there: waits for more than `beyond`, or the end. Raises BrokenBody."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived > beyond or self.sha256 is not None or self._broken)
            if self._arrived <= beyond and self._broken:
                raise BrokenBody
            return self._arrived

    def wait(self) -> None:
        """Waits until all is there. Raises BrokenBody."""
        with self._changed:
            self._changed.wait_for(lambda: self.sha256 is not None or self._broken)
            if self._broken:
                raise BrokenBody


class Passing(Protocol):
    """A body that is sent on as it comes, once. Close it, read or not."""

    def chunks(self) -> Iterator[bytes]:
        """Raises BrokenBody."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client is answered. `size` is what a HEAD announces. `headers` hold nothing that frames the message.

    `passing` is an answer of upstream that is sent on as it comes, `size` bytes long if that is known.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: Body | None = None
    size: int | None = None
    passing: Passing | None = None

    @classmethod
    def of_text(cls, status: int, text: str, *headers: tuple[str, str]) -> Answer:
        return cls(
            status=status,
            headers=(("Content-Type", "text/plain; charset=utf-8"), *headers),
            body=Body.of_bytes(f"klock: {text}\n".encode("utf-8", "replace")),
        )


class Source(Protocol):
    """Where answers come from: upstream, being recorded, or the store. Any thread may ask."""

    def finds(self, name: str) -> bool:
        """Whether a host name may be given an address."""

    def answer(self, request: Request) -> Answer:
        """Raises Refused."""


def _says_who_asks(header: str) -> bool:
    """A signature, which is another one in each request, does not."""
    if header in _NEVER_CREDENTIALS:
        return False
    entry = credential_name(header)
    return entry is not None and (entry.sure or header == "authorization")
