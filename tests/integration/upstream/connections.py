"""HTTP/1.1 as a server speaks it: requests come in as values, answers go out as values, and every request is noted.

An `Application` maps a `Request` to an `Answer` and knows nothing of sockets, so that what an upstream does stands in
one place in plain words: a redirect, a body without a length, a body that is cut off.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["Answer", "Application", "Journal", "Request", "Server", "conditional"]

LAST_MODIFIED: Final = email.utils.formatdate(1_600_000_000, usegmt=True)
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`path` is decoded, `query` in order. `body` is whole, whatever its framing was."""

    method: str
    scheme: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    raw_query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """With `chunks` the body is sent as it comes: without `length` in the chunked coding, with it as that many bytes
    (fewer chunks than announced: the connection ends in the middle)."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Iterable[bytes] | None = None
    length: int | None = None


Application: TypeAlias = Callable[[Request], Answer]


class Journal:
    """A file with one JSON object for each request, which another process may read and empty meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def note(self, request: Request, port: int) -> None:
        query = f"?{request.raw_query}" if request.raw_query else ""
        entry = {
            "method": request.method,
            "url": f"{request.scheme}://{request.host}:{port}{request.path}{query}",
            "headers": dict(request.headers),
        }
        line = json.dumps(entry).encode() + b"\n"
        # One write to a file opened to append: lines of several threads never mix.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class Server:
    """Serves `application` on an address until the process ends."""

    def __init__(
        self, address: tuple[str, int], application: Application, journal: Journal, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._server = _Listener(address, _handler_for(application, journal, "https" if tls else "http", address[1]))
        if tls is not None:
            # Each connection's own thread shakes hands: one that never does must not stop the server.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def conditional(request: Request, answer: Answer) -> Answer:
    """The answer with a validator, as 304 when the client has it, as 206 or 416 when it asks for a range (RFC 9110)."""
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Last-Modified": LAST_MODIFIED, "Accept-Ranges": "bytes", **answer.headers}
    if request.header("If-None-Match") == tag or request.header("If-Modified-Since") == LAST_MODIFIED:
        return Answer(status=304, headers=headers)
    size = len(answer.body)
    wanted = _RANGE.match(request.header("Range"))
    if wanted is None or request.header("If-Range") not in ("", tag, LAST_MODIFIED):
        return replace(answer, headers=headers)
    first, last = wanted[1], wanted[2]
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size:
        return Answer(status=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Answer(status=206, headers=headers, body=answer.body[start : end + 1])


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    # Twenty clients that connect at once shall find room.
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent: clients that hang up are part of the tests."""


def _handler_for(application: Application, journal: Journal, scheme: str, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Small answers must not wait for Nagle's algorithm.
        disable_nagle_algorithm = True
        wbufsize = -1

        def log_message(self, format: str, *args: object) -> None:
            """Silent: tests read the journal instead."""

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            request = Request(
                method=self.command,
                scheme=scheme,
                host=self.headers.get("Host", "").rpartition("@")[2].partition(":")[0].lower(),
                path=unquote(parts.path),
                query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
                raw_query=parts.query,
                headers=dict(self.headers.items()),
                body=self._read_body(),
            )
            journal.note(request, port)
            self._send(application(request))

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = _serve  # noqa: N815

        def _read_body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            body = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                """Trailers."""
            return body

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            length = len(answer.body) if answer.chunks is None else answer.length
            if answer.status != 304:
                self.send_header(
                    *(("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length)))
                )
            self.end_headers()
            if self.command == "HEAD" or answer.status == 304:
                return
            if answer.chunks is None:
                self.wfile.write(answer.body)
                return
            sent = 0
            for chunk in answer.chunks:
                self.wfile.write(chunk if length is not None else b"%x\r\n%b\r\n" % (len(chunk), chunk))
                self.wfile.flush()
                sent += len(chunk)
            if length is None:
                self.wfile.write(b"0\r\n\r\n")
            elif sent < length:
                self.close_connection = True

    return Handler
