"""An API server of Kubernetes as far as klock asks one: lists pods by page, and runs commands in them over websockets.

A pod is a folder. The command runs on this machine, with that folder in place of `/` among its arguments, so what is
read is what a pod would read. The protocol is that of a real server: HTTP, JSON, RFC 6455 and `v4.channel.k8s.io`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["ApiServer", "FakePod", "api_server"]

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(kw_only=True)
class FakePod:
    """`enter` runs a command in a real container, instead of on `root`. `prints` takes the place of what the command
    prints, `sends` that of all that comes over the wire then; `fails` is the HTTP status that refuses a command."""

    name: str
    root: Path | None = None
    enter: Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]] | None = None
    image_id: str = ""
    phase: str = "Running"
    state: dict[str, Any] = field(default_factory=lambda: {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    annotations: dict[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ("image",)
    is_ending: bool = False
    prints: Callable[[bytes], bytes] = lambda output: output
    sends: Callable[[Callable[[bytes], object]], None] | None = None
    fails: int = 0

    def run(self, command: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
        there = [str(self.root) if word == "/" else word for word in command[1:]]
        return subprocess.run([sys.executable, *there], input=given, capture_output=True, check=False)

    def to_json(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self.name, "namespace": "default", "annotations": self.annotations}
        if self.is_ending:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        states = [{"name": name, "imageID": self.image_id, "state": self.state} for name in self.containers]
        return {"metadata": metadata, "status": {"phase": self.phase, "containerStatuses": states}}


@dataclass(kw_only=True)
class ApiServer:
    """`expires` is how many times the second page of a list is gone. `refuses` is the status of every list, and `sends`
    what comes over the wire in place of it."""

    pods: list[FakePod] = field(default_factory=list)
    url: str = ""
    pages: int = 0
    expires: int = 0
    refuses: int = 0
    answers: bytes | None = None
    sends: Callable[[Callable[[bytes], object]], None] | None = None

    def write_config(self, path: Path) -> Path:
        """A kubeconfig that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "a-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(json.dumps(config))
        return path


@contextmanager
def api_server() -> Iterator[ApiServer]:
    state = ApiServer()

    class Handler(_Handler):
        api = state

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        parts = address.path.strip("/").split("/")
        if parts[-1] == "exec":
            self._exec(parts[-2], query)
        elif parts[-1] == "pods":
            self._list(query)
        else:
            self._refuse(404, "there is no such thing")

    def _list(self, query: dict[str, list[str]]) -> None:
        api = self.api
        if api.sends is not None:
            self.close_connection = True
            with suppress(OSError):
                api.sends(self.wfile.write)
            return
        if api.refuses:
            self._refuse(api.refuses, f"pods is forbidden: \x1b[31muser cannot list {query['labelSelector'][0]}")
            return
        if api.answers is not None:
            self._answer(200, api.answers)
            return
        start, limit = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
        api.pages += 1
        if start and api.expires:
            api.expires -= 1
            self._refuse(410, "the continue parameter is too old")
            return
        page = api.pods[start : start + limit]
        metadata = {"continue": str(start + limit)} if start + limit < len(api.pods) else {}
        self._answer(200, json.dumps({"metadata": metadata, "items": [pod.to_json() for pod in page]}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, json.dumps({"kind": "Status", "message": message, "code": status}).encode())

    # -- exec

    def _exec(self, name: str, query: dict[str, list[str]]) -> None:
        pod = next(pod for pod in self.api.pods if pod.name == name)
        if pod.fails:
            self._refuse(pod.fails, "no")
            return
        assert query["container"][0] in pod.containers
        key = self.headers["Sec-WebSocket-Key"]
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accepted = base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accepted)
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.end_headers()
        self.close_connection = True
        if pod.sends is not None:
            self._read_input()
            with suppress(OSError):
                pod.sends(self.wfile.write)
            return
        done = (pod.enter or pod.run)(query["command"], self._read_input())
        self._send_frames(1, pod.prints(done.stdout))
        self._send_frames(2, done.stderr)
        status = {"status": "Success"} if done.returncode == 0 else {"status": "Failure", "message": "exit code 1"}
        self._send_frames(3, json.dumps(status).encode())
        self.wfile.write(b"\x88\x00")

    def _read_input(self) -> bytes:
        """The first frame, which is masked as those of clients are."""
        _, length = self.rfile.read(2)
        length &= 0x7F
        if length >= 126:
            (length,) = struct.unpack(">H" if length == 126 else ">Q", self.rfile.read(2 if length == 126 else 8))
        mask = self.rfile.read(4)
        content = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(length)))
        assert content[0] == 0
        return content[1:]

    def _send_frames(self, channel: int, content: bytes) -> None:
        for start in range(0, len(content), 30_000):
            piece = bytes([channel]) + content[start : start + 30_000]
            head = b"\x82" + (bytes([len(piece)]) if len(piece) < 126 else b"\x7e" + struct.pack(">H", len(piece)))
            self.wfile.write(head + piece)
