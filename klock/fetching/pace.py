"""Answers that nearly stand still are given up: no timeout of a socket sees a server that sends a byte now and then.

From the first byte of an answer on, headers too, each half minute of waiting has to bring some: what klock does
meanwhile, or that it is stopped, is not the server's fault. A body that is given up is taken
up again where it broke (`klock.fetching.transport`), as after any connection that breaks.
"""

from __future__ import annotations

import errno
import functools
import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from klock.connections import connected

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

__all__ = ["paced_pools"]

_WINDOW: Final = 30.0
"""seconds"""
_FEWEST: Final = 30 << 10
"""Bytes that a window has to bring."""
_MOST_HEADS: Final = 16
_MOST_TRAILERS: Final = 100
_LONGEST_LINE: Final = 1 << 16


class _Paced(io.RawIOBase):
    """What comes from a socket, at most `most` bytes."""

    def __init__(self, raw: io.RawIOBase, most: int | None) -> None:
        self._raw = raw
        self._left = most
        self._has_begun = False
        self._waited = 0.0
        self._received = 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        asked = time.monotonic()
        count: int | None = self._raw.readinto(buffer)
        if self._has_begun:
            self._waited += time.monotonic() - asked
        self._has_begun = True
        self._received += count or 0
        if self._left is not None:
            self._left -= count or 0
            if self._left < 0:
                raise http.client.HTTPException("its answer does not end")
        if self._waited > _WINDOW:
            if self._received < _FEWEST:
                raise TimeoutError(errno.ETIMEDOUT, "it sends next to nothing")
            self._waited, self._received = 0.0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    most: int | None = None

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._heads = 0
        self.fp = io.BufferedReader(_Paced(self.fp.detach(), self.most))

    def begin(self) -> None:
        super().begin()
        if self.most is not None:
            # Nobody asked for it, and what it unpacks to has no end.
            del self.headers["Content-Encoding"]

    def _read_status(self) -> tuple[str, int, str]:
        # Interim answers (RFC 9110, 15.2) may come before the one that counts, and http.client reads any number.
        self._heads += 1
        if self._heads > _MOST_HEADS:
            raise http.client.HTTPException("it sends interim answers without end")
        return super()._read_status()  # type: ignore[misc, no-any-return]

    def _read_and_discard_trailer(self) -> None:
        # It would read lines for as long as they come.
        for _ in range(_MOST_TRAILERS):
            if self.fp.readline(_LONGEST_LINE) in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException("it sends trailers without end")


@functools.cache
def paced_pools(*, most: int | None = None) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools of connections, by scheme, whose answers are watched, and have at most `most` bytes."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    def connect(connection: HTTPConnection) -> socket.socket:
        try:
            found = socket.getaddrinfo(connection.host.strip("[]"), connection.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(connection.host, connection, error) from error
        except UnicodeError as error:
            raise NewConnectionError(connection, str(error)) from error
        return connected(connection, [(family, place) for family, _, _, _, place in found])

    response = _Response if most is None else type("_Response", (_Response,), {"most": most})

    class Http(HTTPConnection):
        response_class = response
        _new_conn = connect

    class Https(HTTPSConnection):
        response_class = response
        _new_conn = connect

    class HttpPool(HTTPConnectionPool):
        ConnectionCls = Http

    class HttpsPool(HTTPSConnectionPool):
        ConnectionCls = Https

    return {"http": HttpPool, "https": HttpsPool}
