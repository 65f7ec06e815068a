"""A web server for tests of the recorder: what real servers do, on purpose and by accident, and a log of who asked."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import http.server
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from klock.workshop import linux

__all__ = ["BIG", "Upstream", "big_body"]

BIG: Final = 5_000_000
"""The size of `/big`: more than is passed on as a whole."""


RAW: Final = {
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nraw",
    "control-characters": b"HTTP/1.1 200 OK\r\nContent-Type: a\x00b\x0bc\r\n d\r\nContent-Length: 3\r\n\r\nraw",
    "no-url": b"HTTP/1.1 302 Found\r\nLocation: http://[::1/?token=x\r\nContent-Length: 3\r\n\r\nraw",
    "many-digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 25 + b"\r\n\r\n",
    "too-many-digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
    "other-protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "half-a-line": b"HTTP/1.1 200 O",
    "half-a-head": b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n",
    "many-texts": b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps([f"t-{n:06}" for n in range(501)]).encode(),
    "negative-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nraw\r\n0\r\n\r\n",
}
"""What no server should send."""

_START_OVER: Final = "/start-over"


def big_body(size: int = BIG) -> bytes:
    """Bytes that no two ranges of have in common."""
    block = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(2048))
    return (block * (size // len(block) + 1))[:size]


class Upstream:
    """The server in a process of its own; its log has a line for each request: method, URL, and chosen headers."""

    def __init__(self, log: Path, *, address: str, context: ssl.SSLContext) -> None:
        self._log = log
        self._address = address
        log.touch()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                linux.die_with_parent(parent)
                _serve(log, address, context)
            finally:
                os._exit(0)
        for port in (80, 443, 8080, 8443):
            _wait_for(address, port)

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def lines(self) -> list[str]:
        """`GET http://site.test/x` for each request, in order."""
        return [f"{request['method']} {request['url']}" for request in self.requests]

    def forget(self) -> None:
        self._log.write_text("")

    def start_over(self) -> None:
        """As if nothing was ever asked: what counts, counts from one again."""
        connection = http.client.HTTPConnection(self._address, timeout=30)
        connection.request("GET", _START_OVER)
        connection.getresponse().read()
        connection.close()
        self.forget()

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _wait_for(address: str, port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection((address, port), timeout=5).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise TimeoutError(f"no server at {address}:{port}")


def _serve(log: Path, address: str, context: ssl.SSLContext) -> None:
    state = _State(log)
    for port, scheme in ((80, "http"), (443, "https"), (8080, "http"), (8443, "https")):
        server = _Server((address, port), _Handler)
        server.state, server.scheme = state, scheme
        if scheme == "https":
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()


class _State:
    def __init__(self, log: Path) -> None:
        self.log = log
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    def count(self, what: str) -> int:
        with self.lock:
            self.counts[what] += 1
            return self.counts[what]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    state: _State
    scheme: str

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        if self.path == _START_OVER:
            self.server.state.counts.clear()
            return self.answer(200)
        body = self._read_body()
        self.url = f"{self.server.scheme}://{self.headers.get('Host')}{self.path}"
        self.parts = urlsplit(self.path)
        entry = {"method": self.command, "url": self.url, "headers": dict(self.headers), "body": body.decode("latin-1")}
        with self.server.state.lock, self.server.state.log.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        name = self.parts.path.strip("/").split("/")[0].replace("-", "_")
        act: Callable[[bytes], None] = getattr(self, f"on_{name}", self.on_echo)
        return act(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_OPTIONS = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes | str = b"", *headers: tuple[str, str]) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in (("Content-Length", str(len(content))), *headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # -- by the first part of the path

    def on_echo(self, body: bytes) -> None:
        """What was asked: the method, the path and the body."""
        self.answer(200, f"{self.command} {self.path} {body.decode('latin-1')}\n", ("Content-Type", "text/plain"))

    def on_headers(self, body: bytes) -> None:
        self.answer(200, json.dumps(dict(self.headers)))

    def on_count(self, body: bytes) -> None:
        """Another answer each time."""
        self.answer(200, f"{self.server.state.count(self.path)}\n")

    def on_big(self, body: bytes) -> None:
        size = int(self.parts.query or BIG)
        self.answer(200, big_body(size), ("ETag", '"big"'))

    def on_chunked(self, body: bytes) -> None:
        """A body of unknown size; the query says how many bytes."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        content = big_body(int(self.parts.query or 1000))
        for start in range(0, len(content), 100_000):
            piece = content[start : start + 100_000]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def on_close(self, body: bytes) -> None:
        """A body that ends with the connection, as HTTP/1.0 has it."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"until the end")
        self.close_connection = True

    def on_gzip(self, body: bytes) -> None:
        """Compressed, whether asked for or not."""
        self.answer(200, gzip.compress(b"unpacked\n", mtime=0), ("Content-Encoding", "gzip"))

    def on_redirect(self, body: bytes) -> None:
        """`/redirect/STATUS?URL`"""
        status = int(self.parts.path.split("/")[2])
        self.answer(status, b"", ("Location", self.parts.query))

    def on_signed(self, body: bytes) -> None:
        """To a URL that is signed anew each time."""
        signature = f"{self.server.state.count('signature'):032x}"
        self.answer(
            302, b"", ("Location", f"http://files.test/signed-file?X-Amz-Expires=60&X-Amz-Signature={signature}")
        )

    def on_signed_file(self, body: bytes) -> None:
        signature = parse_qs(self.parts.query).get("X-Amz-Signature", [""])[0]
        self.answer(200 if len(signature) == 32 else 403, "the signed file\n")

    def on_auth(self, body: bytes) -> None:
        """Asks for credentials first."""
        given = self.headers.get("Authorization")
        if given is None:
            self.answer(401, "who are you?\n", ("WWW-Authenticate", 'Basic realm="test"'))
        else:
            self.answer(200, "for members\n")

    def on_login(self, body: bytes) -> None:
        self.answer(302, b"", ("Location", "/members"), ("Set-Cookie", "session=3f9a8c7b6d5e4f3a2b1c; Path=/"))

    def on_members(self, body: bytes) -> None:
        if "session=3f9a8c7b6d5e4f3a2b1c" in self.headers.get("Cookie", ""):
            self.answer(200, "members only\n")
        else:
            self.answer(302, b"", ("Location", "/login"))

    def on_accept(self, body: bytes) -> None:
        is_json = "json" in self.headers.get("Accept", "")
        self.answer(200, '{"as": "json"}' if is_json else "as text\n", ("Vary", "Accept"))

    def on_token(self, body: bytes) -> None:
        number = self.server.state.count("token")
        self.answer(
            200,
            json.dumps({"access_token": f"tok-{number:04d}-9f8e7d6c5b4a39281706", "expires_in": 3600}),
            ("Content-Type", "application/json"),
        )

    def on_leak(self, body: bytes) -> None:
        """Tells the caller's own credential; the query says after how many bytes."""
        before = b"." * int(self.parts.query or 0)
        self.answer(200, before + self.headers.get("X-Api-Key", "").encode() + before)

    def on_status(self, body: bytes) -> None:
        """`/status/503` answers that."""
        self.answer(int(self.parts.path.split("/")[2]), "so it is\n")

    def on_busy(self, body: bytes) -> None:
        """`/busy/N` answers 503 N times, then 200."""
        if self.server.state.count(self.path) <= int(self.parts.path.split("/")[2]):
            self.answer(503, "later\n", ("Retry-After", "0"))
        else:
            self.answer(200, "now\n")

    def on_raw(self, body: bytes) -> None:
        """`/raw/NAME` answers with those bytes, and hangs up."""
        self.wfile.write(RAW[self.parts.path.split("/")[2]])
        self.close_connection = True

    def on_slow(self, body: bytes) -> None:
        """Begins, and never ends: `/slow/head` in its head, `/slow/SIZE` in its body, of that size or, for 0, of none
        that is announced."""
        size = self.parts.path.split("/")[2]
        try:
            if size == "head":
                while True:
                    self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    time.sleep(0.01)
            self.send_response(200)
            if int(size):
                self.send_header("Content-Length", size)
            self.end_headers()
            self.wfile.write(big_body(2_000_000))
            while True:
                self.wfile.write(b"." * (1 if int(size) else 1 << 20))
                time.sleep(0.01)
        except OSError:
            self.close_connection = True

    def on_broken(self, body: bytes) -> None:
        """Breaks off in the middle, unless the rest is asked for: `/broken/resumes`, `/broken/again`,
        `/broken/changes`, `/broken/always`."""
        kind = self.parts.path.split("/")[2]
        content = big_body(3_000_000)
        number = self.server.state.count(self.path)
        if kind == "resumes" and self.headers.get("Range"):
            assert self.headers.get("If-Range") == '"tag"'
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            ending = content[start:]
            self.answer(206, ending, ("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"))
            return
        if kind == "changes" and number > 1:
            self.answer(200, content[::-1])
            return
        whole = kind == "again" and number > 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if kind == "resumes":
            self.send_header("ETag", '"tag"')
        self.end_headers()
        self.wfile.write(content if whole else content[: 2_000_000 if kind != "always" else 1000])
        self.close_connection = True
