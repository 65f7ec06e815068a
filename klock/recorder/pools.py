"""Connections of the recorder: to addresses that were checked, and answers whose head came as a whole.

http.client accepts a head that breaks off. Without its last lines a body may have no announced size, and
then it is whole whenever the connection ends: half of an answer would be locked.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from io import BufferedReader
from typing import BinaryIO, Final, TypeAlias, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError

from klock.connections import connected
from klock.recorder.addresses import ForbiddenAddress

__all__ = ["LookUp", "PoolClasses", "pools_by_scheme"]

LookUp: TypeAlias = Callable[[str, int], Sequence[tuple[int, str]]]
"""The addresses of a name and a port, as (family, address)."""
PoolClasses: TypeAlias = dict[str, type[HTTPConnectionPool]]

_MOST_INTERIM: Final = 16
_SWITCHING_PROTOCOLS: Final = 101
_OK: Final = 200


def pools_by_scheme(look_up: LookUp) -> tuple[PoolClasses, PoolClasses]:
    """The classes of pools by scheme: for connections straight to the addresses of `look_up`, while TLS verifies the
    name; and for those through a proxy, which looks names up itself."""

    class CheckedConnection(_Connection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, look_up)

    class CheckedTlsConnection(_TlsConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, look_up)

    class CheckedPool(HTTPConnectionPool):
        ConnectionCls = CheckedConnection

    class CheckedTlsPool(HTTPSConnectionPool):
        ConnectionCls = CheckedTlsConnection

    return {"http": CheckedPool, "https": CheckedTlsPool}, {"http": _Pool, "https": _TlsPool}


class _Lines:
    """The lines of a head."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readline(self, limit: int = -1) -> bytes:
        line = self._file.readline(limit)
        if not line.endswith(b"\n") and len(line) != limit:
            raise RemoteDisconnected("the head of the answer broke off")
        return line

    def close(self) -> None:
        self._file.close()


class _Response(HTTPResponse):
    """An answer whose head is whole. Interim ones before it (RFC 9110, 15.2) are passed over."""

    def begin(self) -> None:
        file = self.fp
        self.fp = cast("BufferedReader", _Lines(file))  # of which the head takes readline and close
        try:
            for _ in range(_MOST_INTERIM):
                # http.client reads a head only while there is none, and does not tell types so.
                self.headers = self.msg = None  # type: ignore[assignment]
                super().begin()
                if self.status >= _OK or self.status == _SWITCHING_PROTOCOLS:
                    return
        finally:
            self.fp = file
        raise HTTPException(f"more than {_MOST_INTERIM} interim answers")


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _connect(connection: HTTPConnection, look_up: LookUp) -> socket.socket:
    try:
        addresses = look_up(connection.host.rstrip("."), connection.port)
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except (ForbiddenAddress, UnicodeError) as error:
        raise NewConnectionError(connection, str(error)) from error
    return connected(connection, [(family, (address, connection.port)) for family, address in addresses])
