"""One connection of a client: TLS or not, told by its first byte, then HTTP/1.1, or a tunnel as through a proxy."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from dataclasses import replace
from typing import Final

import h11

from klock.recorder.addresses import is_literal
from klock.recorder.authority import Authority
from klock.recorder.delivery import Wire, deliver
from klock.recorder.doors import Doors
from klock.recorder.exchange import Answer, BrokenBody, Refused, Request, Source
from klock.recorder.report import Notes
from klock.values import dataclass

__all__ = ["Place", "TlsWire", "serve", "server_context"]

_FIRST_BYTES: Final = 30.0
_IDLE: Final = 120.0
_RECEIVE: Final = 1 << 16
_LONGEST_HEAD: Final = 1 << 17
_LONGEST_BODY: Final = 64 << 20
_TLS_HANDSHAKE: Final = b"\x16"
_HTTP_2: Final = b"PRI"  # RFC 9113, 3.4
_METHOD: Final = re.compile(rb"[A-Z][A-Z_-]{0,31}")
_ABSOLUTE: Final = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY: Final = re.compile(r"(?:[^@]*@)?(?P<host>\[[0-9A-Fa-f:.%]*\]|[A-Za-z0-9_.-]{1,255})(?::(?P<port>\d{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a client believes to be connected to."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"tcp {self.name}:{self.port}"


class TlsWire(ssl.SSLSocket):
    """A TLS connection that remembers the name its client asked for: other threads have other ones."""

    server_name: str | None = None
    default_name: str = ""


def server_context(authority: Authority) -> ssl.SSLContext:
    """A context for connections whose name is not known before the first message of the client (SNI, RFC 6066)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_TICKET | ssl.OP_IGNORE_UNEXPECTED_EOF
    context.num_tickets = 0
    context.sslsocket_class = TlsWire

    def choose(wire: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> int | None:
        assert isinstance(wire, TlsWire)
        wire.server_name = name
        try:
            wire.context = authority.context(name or wire.default_name)
        except ValueError:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    context.sni_callback = choose
    return context


def serve(
    client: socket.socket,
    place: Place,
    *,
    context: ssl.SSLContext,
    source: Source,
    notes: Notes,
    doors: Doors,
) -> None:
    """Serves a connection to its end, and closes it. No client can make it raise."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conversation = _Conversation(client, context=context, source=source, notes=notes, doors=doors)
    try:
        conversation.run(place)
    finally:
        conversation.close()


class _NotHttp(Exception):
    """A client sent something other than HTTP; the text says what is wrong with it."""


class _Conversation:
    def __init__(
        self, client: socket.socket, *, context: ssl.SSLContext, source: Source, notes: Notes, doors: Doors
    ) -> None:
        self._wire: Wire = client
        self._context = context
        self._source = source
        self._notes = notes
        self._doors = doors
        self._abort = False

    def run(self, place: Place) -> None:
        next_place: Place | None = place
        early = b""
        try:
            while next_place is not None:
                place = next_place
                scheme = "http"
                if not early:
                    first = self._peek(place)
                    if not first:
                        return
                    if first == _TLS_HANDSHAKE:
                        place = self._begin_tls(place)
                        scheme = "https"
                elif early[:1] == _TLS_HANDSHAKE:
                    raise _NotHttp("the program began TLS before the proxy answered CONNECT")
                next_place, early = self._speak_http(place, scheme, early)
        except (_NotHttp, h11.RemoteProtocolError) as error:
            self._notes.refuse(f"{place}: not HTTP/1.1, and only HTTP is allowed ({_said(error)})")
            self._abort = True
        except ssl.SSLError as error:
            self._abort = True
            if "ALERT" in (error.reason or "") or "UNKNOWN" in (error.reason or ""):
                self._notes.refuse(
                    f"https://{place.name}:{place.port}: TLS failed ({_said(error)}): the program must trust the "
                    "certificates that SSL_CERT_FILE names"
                )
            elif not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
                self._notes.refuse(f"{place}: TLS failed ({_said(error)})")
        except (OSError, BrokenBody):
            # The client is gone, or must notice that the answer is incomplete.
            self._abort = True

    def close(self) -> None:
        try:
            if self._abort:
                # With a reset: after an end of file the answer would look complete.
                self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif isinstance(self._wire, ssl.SSLSocket):
                self._wire.settimeout(1.0)
                self._wire = self._wire.unwrap()
        except (OSError, ValueError):
            pass
        finally:
            self._wire.close()

    # -- the first bytes

    def _peek(self, place: Place) -> bytes:
        self._wire.settimeout(_FIRST_BYTES)
        try:
            if isinstance(self._wire, ssl.SSLSocket):
                return b"-"  # within TLS there is no second TLS
            return self._wire.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            raise _NotHttp("the program waited for the server to speak first") from None
        finally:
            self._wire.settimeout(None)

    def _begin_tls(self, place: Place) -> Place:
        self._wire.settimeout(_IDLE)
        wire = self._context.wrap_socket(self._wire, server_side=True, do_handshake_on_connect=False)
        assert isinstance(wire, TlsWire)
        wire.default_name = place.name
        self._wire = wire
        wire.do_handshake()
        wire.settimeout(None)
        return replace(place, name=(wire.server_name or place.name).rstrip(".").lower())

    # -- HTTP

    def _speak_http(self, place: Place, scheme: str, early: bytes) -> tuple[Place | None, bytes]:
        """Serves requests to the end; or up to a tunnel, with its far end and what was sent too early."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        if early:
            connection.receive_data(early)
        else:
            connection.receive_data(self._first_words())
        while True:
            event = self._next_event(connection)
            if not isinstance(event, h11.Request):
                return None, b""
            if event.method == b"CONNECT":
                return self._begin_tunnel(connection, event)
            body = self._read_body(connection)
            if body is None:
                return None, b""
            request, answer = self._answer(event, body, place, scheme)
            deliver(self._wire, connection, request, answer)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return None, b""
            connection.start_next_cycle()

    def _first_words(self) -> bytes:
        """Bytes that may begin a request. Raises _NotHttp for others, before the client waits for an answer."""
        words = b""
        while True:
            more = self._receive()
            words += more
            method, space, _ = words.lstrip(b"\r\n").partition(b" ")
            if not more or (not method and not space):
                return words
            if _METHOD.fullmatch(method) is None:
                raise _NotHttp("no HTTP request begins like this")
            if method == _HTTP_2:
                raise _NotHttp("the program insists on HTTP/2")
            if space:
                return words

    def _receive(self) -> bytes:
        self._wire.settimeout(_IDLE)
        try:
            return self._wire.recv(_RECEIVE)
        except TimeoutError:
            return b""
        finally:
            self._wire.settimeout(None)

    def _next_event(self, connection: h11.Connection) -> object:
        while True:
            event = connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self._wire.sendall(connection.send(go_on) or b"")
            data = self._receive()
            if not data:
                return None  # the client is gone, perhaps in the middle of a request
            connection.receive_data(data)

    def _read_body(self, connection: h11.Connection) -> bytes | None:
        body = bytearray()
        while True:
            event = self._next_event(connection)
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            if not isinstance(event, h11.Data):
                return None
            body += event.data
            if len(body) > _LONGEST_BODY:
                raise _NotHttp(f"the body of a request is longer than {_LONGEST_BODY >> 20} MiB")

    def _begin_tunnel(self, connection: h11.Connection, event: h11.Request) -> tuple[Place | None, bytes]:
        """As a proxy does (RFC 9110, 9.3.6): what follows on the connection is for that host."""
        self._next_event(connection)
        match = _AUTHORITY.fullmatch(event.target.decode("ascii"))
        if match is None or not _is_port(match["port"]):
            raise _NotHttp("CONNECT without a host and a port")
        place = Place(name=match["host"].lower(), port=int(match["port"]))
        self._wire.sendall(connection.send(h11.Response(status_code=200, headers=[])) or b"")
        return place, connection.trailing_data[0]

    def _answer(self, event: h11.Request, body: bytes, place: Place, scheme: str) -> tuple[Request, Answer]:
        headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers.raw_items())
        host = next((value for name, value in headers if name.lower() == "host"), "") or place.name
        url, reason = _url_of(event.target.decode("ascii"), host, place, scheme, self._doors)
        request = Request(method=event.method.decode("ascii"), url=url, headers=headers, body=body)
        try:
            if reason:
                raise Refused(reason)
            return request, self._source.answer(request)
        except Refused as refused:
            return request, Answer.of_text(403, self._notes.refuse_request(request, str(refused)))


def _url_of(target: str, host: str, place: Place, scheme: str, doors: Doors) -> tuple[str, str]:
    """The URL a request is for, and why it is refused, if it is. `host` is its Host header or the name of the place."""
    reason = ""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        scheme = absolute["scheme"].lower()
        host, target = absolute["authority"], absolute["rest"]
    if not target.startswith("/"):
        reason = "" if absolute is not None and target[:1] in ("", "?") else "its target is not a path"
        target = f"/{target}"
    match = _AUTHORITY.fullmatch(host)
    if match is None or (match["port"] and not _is_port(match["port"])):
        reason, host, port = "its Host header is not a host", place.name, place.port
    else:
        host = match["host"].rstrip(".").lower()
        port = int(match["port"] or _DEFAULT_PORTS[scheme]) if absolute is not None else place.port
    if is_literal(host) and not doors.is_origin(host, port):
        reason = "an address, but steps may connect only to host names"
    where = host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"
    return f"{scheme}://{where}{target.partition('#')[0]}", reason


def _is_port(digits: str | None) -> bool:
    return digits is not None and 0 < int(digits) <= _LAST_PORT


def _said(error: Exception) -> str:
    """The text of an exception, without what the client sent."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).lower().replace("_", " ")
    return str(error).partition(":")[0]
