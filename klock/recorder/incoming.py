"""An answer of a real server, whose body is still coming in, over as many connections as that takes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from klock.connections import reason_of
from klock.values import dataclass, field

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

    from urllib3 import BaseHTTPResponse

__all__ = ["ATTEMPTS", "CHUNK", "PAUSE", "Incoming", "Truncated", "connection_errors"]

CHUNK: Final = 1 << 18
"""The most bytes of a body that are taken at once."""

ATTEMPTS: Final = 4
PAUSE: Final = 0.5
"""Seconds before the second attempt; each further one waits twice as long."""


class Truncated(Exception):
    """The body of an answer broke off, or changed on the way; the text says why."""


@dataclass(kw_only=True)
class Incoming:
    """An answer that is coming in. `size` is announced, or None. Close it, read or not.

    `resume` asks for the rest of the body, given how many bytes are here and an entity tag; None when that fails. There
    is none where a client is to see that the body broke off.
    `count` is told the size of each piece that comes in.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    size: int | None
    response: BaseHTTPResponse = field(repr=False)
    resume: Callable[[int, str | None], BaseHTTPResponse | None] | None = field(repr=False)
    count: Callable[[int], None] = field(repr=False)
    _hash: Hash = field(default_factory=hashlib.sha256, repr=False)

    def header(self, name: str) -> str:
        """The value of the first header of this name (lower case); empty when there is none."""
        return next((value for own, value in self.headers if own.lower() == name), "")

    @property
    def sha256(self) -> str:
        """Of all bytes that `chunks` has given so far."""
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """The body, once. A connection that breaks is taken up again where it broke, and a server that knows no ranges
        sends everything once more. Raises Truncated when that fails, or what is sent again is something else.
        """
        received = 0
        for attempt in range(ATTEMPTS):
            skip = received if self.response.status != 206 else 0
            again = hashlib.sha256()
            try:
                for chunk in self.response.stream(CHUNK, decode_content=False):
                    self.count(len(chunk))
                    if skip:
                        old, chunk = chunk[:skip], chunk[skip:]
                        again.update(old)
                        skip -= len(old)
                        if not skip and again.digest() != self._hash.digest():
                            raise Truncated("it broke off, and a second request got another answer")
                    if chunk:
                        received += len(chunk)
                        self._hash.update(chunk)
                        yield chunk
                if skip:
                    raise Truncated("it broke off, and a second request got a shorter answer")
                return
            except connection_errors() as error:
                self.response.close()
                reason = reason_of(error)
                resumed = None
                while self.resume is not None and resumed is None and attempt < ATTEMPTS - 1:
                    time.sleep(PAUSE * 2**attempt)
                    attempt += 1
                    resumed = self.resume(received, self._validator)
                if resumed is None:
                    raise Truncated(f"its body broke off ({reason})") from error
                self.response = resumed

    def close(self) -> None:
        """Gives the connection back when the body was read to its end, and closes it otherwise."""
        if self.response.closed or self.response.length_remaining == 0:
            # Of an answer to HEAD nothing was read, and http.client waits for that before the next request.
            self.response.drain_conn()
            self.response.release_conn()
        else:
            self.response.close()

    @property
    def _validator(self) -> str | None:
        """What If-Range may hold: an entity tag that is strong (RFC 9110, 13.1.5)."""
        tag = self.header("etag")
        return tag if tag.startswith('"') else None


def connection_errors() -> tuple[type[Exception], ...]:
    """What urllib3 raises when a server, or the way to it, fails."""
    from http.client import HTTPException

    from urllib3.exceptions import HTTPError

    # ValueError: numbers of an answer that are none, as a negative size of a chunk.
    return (HTTPError, HTTPException, OSError, ValueError)
