"""Passes connections on from a Unix socket to a server that speaks TLS, each direction's end by itself.

What docker's own program does too (RFC 8446, 6.1: `close_notify` ends one direction). Python's sockets cannot, but its
TLS without a socket can (`ssl.MemoryBIO`).
"""

from __future__ import annotations

import selectors
import socket
import ssl
from contextlib import suppress
from typing import Final, NoReturn

from klock.connections import reason_of
from klock.errors import EngineError
from klock.places.containers.address import Address

__all__ = ["Tls"]

_PIECE: Final = 1 << 16
_MOST_WAITING: Final = 1 << 20
_SECONDS: Final = 20.0
_TRY: Final = b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n"


class Tls:
    """The way to the server of an address. Raises EngineError for certificates that cannot be read."""

    def __init__(self, address: Address) -> None:
        self._address = address
        certificates = address.certificates
        assert certificates is not None
        try:
            context = ssl.create_default_context(cafile=certificates.authority)
            if certificates.certificate is not None:
                context.load_cert_chain(certificates.certificate, certificates.key)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise EngineError(
                f"docker's certificates cannot be read: {error}", hint="see DOCKER_CERT_PATH, or `docker context ls`"
            ) from error
        if not certificates.verifies:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._context = context

    def try_once(self) -> None:
        """Raises EngineError that says why the server does not answer: behind the tunnel only its end is seen."""
        try:
            with self._connected() as far, self._context.wrap_socket(far, server_hostname=self._address.host) as tls:
                tls.sendall(_TRY)
                # By TLS 1.3 a server refuses a client's certificate only after the handshake.
                answered = tls.recv(_PIECE)
        except OSError as error:
            raise EngineError(
                f"docker does not answer at {self._address.url}, which {self._address.origin} names: {_why(error)}",
                hint="see whether `docker version` works; docker's certificates are in DOCKER_CERT_PATH",
            ) from error
        if not answered:
            raise EngineError(f"docker closed the connection at {self._address.url}", hint="try `docker version`")

    def serve(self, server: socket.socket) -> NoReturn:
        """Passes on every connection to `server`, a socket that listens."""
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is server:
                        near, _ = server.accept()
                        self._begin(near, selector)
                    elif isinstance(key.data, _Line):
                        key.data.go_on(selector)

    def _begin(self, near: socket.socket, selector: selectors.BaseSelector) -> None:
        """Nobody is told why it fails: `try_once` did, and whoever asks sees that the connection ends."""
        try:
            far = self._connected()
        except OSError:
            near.close()
            return
        _Line(near, far, self._context, self._address.host).go_on(selector)

    def _connected(self) -> socket.socket:
        return socket.create_connection((self._address.host, self._address.port), timeout=_SECONDS)


class _Line:
    """One connection: `near` with plain bytes, `far` with TLS."""

    def __init__(self, near: socket.socket, far: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._near, self._far = near, far
        self._from_far, self._to_far = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_far, self._to_far, server_hostname=host)
        self._sending = bytearray()
        """Encrypted, to `far`."""
        self._receiving = bytearray()
        """Plain, to `near`."""
        self._is_ready = False
        self._near_ended = self._far_ended = self._told_near = False
        near.setblocking(False)
        far.setblocking(False)

    def _watch(self, selector: selectors.BaseSelector) -> None:
        """Has the selector wait for what this connection can go on with; closes it when both ends have ended."""
        if self._told_near and (self._near_ended or self._far_ended) and not self._sending:
            self.close(selector)
            return
        wants_near = self._is_ready and not self._near_ended and len(self._sending) < _MOST_WAITING
        wants_far = not self._far_ended and len(self._receiving) < _MOST_WAITING
        _watch(selector, self._near, self, wants_near, bool(self._receiving))
        _watch(selector, self._far, self, wants_far, bool(self._sending))

    def go_on(self, selector: selectors.BaseSelector) -> None:
        """Does all that can be done without waiting, and has the selector wait for the rest."""
        try:
            self._step()
        except OSError:
            self.close(selector)
            return
        self._watch(selector)

    def close(self, selector: selectors.BaseSelector) -> None:
        for end in (self._near, self._far):
            with suppress(KeyError, ValueError):
                selector.unregister(end)
            end.close()

    def _step(self) -> None:
        self._take_from_far()
        if not self._is_ready:
            with suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                self._is_ready = True
        if self._is_ready:
            self._decrypt()
            self._take_from_near()
        self._sending += self._to_far.read()
        _send(self._far, self._sending)
        _send(self._near, self._receiving)
        if self._far_ended and not self._receiving and not self._told_near:
            self._told_near = True
            with suppress(OSError):
                self._near.shutdown(socket.SHUT_WR)

    def _take_from_far(self) -> None:
        if self._far_ended or len(self._receiving) >= _MOST_WAITING:
            return
        with suppress(BlockingIOError):
            encrypted = self._far.recv(_PIECE)
            if encrypted:
                self._from_far.write(encrypted)
            else:
                self._from_far.write_eof()
                self._far_ended = not self._is_ready

    def _decrypt(self) -> None:
        try:
            while plain := self._tls.read(_PIECE):
                self._receiving += plain
            self._far_ended = True
        except ssl.SSLWantReadError:
            return
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._far_ended = True

    def _take_from_near(self) -> None:
        if self._near_ended or len(self._sending) >= _MOST_WAITING:
            return
        with suppress(BlockingIOError):
            plain = self._near.recv(_PIECE)
            if plain:
                self._tls.write(plain)
                return
            self._near_ended = True
            # Says that nothing follows, and would wait for the other side to say so too.
            with suppress(ssl.SSLWantReadError):
                self._tls.unwrap()


def _watch(selector: selectors.BaseSelector, end: socket.socket, line: _Line, reads: bool, writes: bool) -> None:
    events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
    is_watched = end in selector.get_map()
    if events and is_watched:
        selector.modify(end, events, line)
    elif events:
        selector.register(end, events, line)
    elif is_watched:
        selector.unregister(end)


def _send(end: socket.socket, waiting: bytearray) -> None:
    with suppress(BlockingIOError):
        while waiting:
            del waiting[: end.send(waiting)]


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    return reason_of(error)
