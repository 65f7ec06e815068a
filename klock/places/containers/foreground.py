"""A container's process in the foreground of klock's own: started, with its streams passed on, until it ends."""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import Any, Final

from klock.errors import EngineError
from klock.places.containers.attached import Attachment
from klock.places.containers.client import EngineClient
from klock.places.containers.connection import docker_package
from klock.places.protocol import Streams

__all__ = ["follow", "start"]

_STREAMS: Final = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}


def start(client: EngineClient, container: str) -> socket.socket:
    """Starts a container and returns the connection with its streams on it."""
    api = client.api
    # podman makes the container ready here, docker when it starts it.
    connection = _raw_socket(api.attach_socket(container, params=_STREAMS))
    try:
        api.start(container)
    except BaseException:
        _close(connection)
        raise
    return connection


def follow(
    client: EngineClient, container: str, connection: socket.socket, *, streams: Streams, signals: int, terminal: bool
) -> int:
    """The status of a container that was started, when it has ended. `signals` is that of `attached.signals_noted`."""
    docker = docker_package(client.engine)
    api = client.api

    def kill(number: int) -> None:
        with contextlib.suppress(docker.errors.APIError):  # it has ended
            api.kill(container, signal.Signals(number).name)

    def resize(rows: int, columns: int) -> None:
        with contextlib.suppress(docker.errors.APIError):
            api.resize(container, height=rows, width=columns)

    try:
        Attachment(connection, streams=streams, signals=signals, terminal=terminal, kill=kill, resize=resize).run()
        return int(api.wait(container)["StatusCode"])
    finally:
        _close(connection)


def _raw_socket(attached: Any) -> socket.socket:
    """The socket below what the client gives: it depends on the transport."""
    found = getattr(attached, "_sock", attached)
    if not isinstance(found, socket.socket):
        raise EngineError("klock can attach to a container over a Unix socket or plain TCP only", hint="use unix://")
    found.settimeout(None)
    return found


def _close(connection: socket.socket) -> None:
    """Closes it although the client keeps a reference: engines keep a container while a reader is connected."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
