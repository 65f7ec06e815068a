"""A way to a server that breaks: connections end after a number of bytes, as often as is asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["cutting_proxy"]


@contextmanager
def cutting_proxy(upstream: str, *, after: int, times: int) -> Iterator[str]:
    """The address of a proxy to `upstream` (HOST:PORT). The first `times` connections over which more than `after`
    bytes are sent to it end there."""
    host, _, port = upstream.partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    left = threading.Semaphore(times)

    def pump(source: socket.socket, target: socket.socket, *, cuts: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                if cuts and passed + len(chunk) > after and left.acquire(blocking=False):
                    target.sendall(chunk[: max(0, after - passed)])
                    break
                passed += len(chunk)
                target.sendall(chunk)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((host, int(port)))
                for source, target, cuts in ((client, server, True), (server, client, False)):
                    threading.Thread(target=pump, args=(source, target), kwargs={"cuts": cuts}, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
