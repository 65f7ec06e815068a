"""Unix sockets of klock's own that lead to an engine: podman's service, an engine behind ssh, one that speaks TLS.

The program behind each ends with klock. Commands need a connection of which one direction can be closed alone, as
their input ends before their output does. Python's TLS cannot do that on a socket, so a process stands between.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from klock.errors import EngineError
from klock.places.containers.address import Address, listens
from klock.temporary import temporary_folder
from klock.workshop import linux
from klock.workshop.signals import end_at_once

__all__ = ["podman_service", "ssh_tunnel", "tls_tunnel"]

_PATIENCE: Final = 20.0
_PAUSE: Final = 0.01
_IDLE: Final = 60


def podman_service(environ: Mapping[str, str]) -> str:
    """Starts podman's service on a socket that nobody else knows. Rootless, where podman starts itself once more, a
    klock that is killed cannot take it along, so it also ends when nobody has used it for a minute."""
    program = _program("podman", environ)
    return _started(
        lambda path: [program, "system", "service", f"--time={_IDLE}", f"unix://{path}"],
        environ,
        what="podman's service does not start",
        hint="run `podman info` to see why",
    )


def ssh_tunnel(address: Address, environ: Mapping[str, str]) -> str:
    """A socket that leads to the one on another machine, by the ssh of this one, with its settings, keys and agent."""
    program = _program("ssh", environ, package="openssh-client")
    destination = f"{address.user}@{address.host}" if address.user else address.host

    def words(path: str) -> list[str]:
        options = ("BatchMode=yes", "ExitOnForwardFailure=yes", "StreamLocalBindUnlink=yes", "ServerAliveInterval=30")
        chosen = [word for option in options for word in ("-o", option)]
        port = ["-p", str(address.port)] if f":{address.port}" in address.url else []
        # As podman's own program reads it.
        key = environ.get("CONTAINER_SSHKEY") if address.origin == "CONTAINER_HOST" else None
        identity = ["-i", key] if key else []
        return [program, "-nNT", *chosen, *port, *identity, "-L", f"{path}:{address.path}", "--", destination]

    return _started(
        words,
        environ,
        what=f"ssh does not reach {address.url}, which {address.origin} names",
        hint=f"ssh asks for no password here: see whether `ssh -o BatchMode=yes {destination} true` works",
    )


def tls_tunnel(address: Address) -> str:
    """A socket that leads to an engine that speaks TLS. Raises EngineError where it does not answer, or not to us."""
    from klock.places.containers.tls import Tls

    tls = Tls(address)
    tls.try_once()
    stack = ExitStack()
    path = f"{stack.enter_context(temporary_folder('engine'))}/engine.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            linux.die_with_parent(parent)
            os.setsid()  # signals of the terminal are for klock
            end_at_once()
            tls.serve(server)
        finally:
            os._exit(1)
    server.close()

    def end() -> None:
        if os.getpid() == parent:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            stack.close()

    atexit.register(end)
    return path


def _program(name: str, environ: Mapping[str, str], *, package: str | None = None) -> str:
    program = shutil.which(name, path=environ.get("PATH"))
    if program is None:
        raise EngineError(f"{name} is not installed", hint=f"run `apt-get install {package or name}`")
    return program


def _started(words: Callable[[str], Sequence[str]], environ: Mapping[str, str], *, what: str, hint: str) -> str:
    """Starts a program that listens at a socket, by the path that `words` gets, until klock ends."""
    stack = ExitStack()
    folder = stack.enter_context(temporary_folder("engine"))
    path, log = f"{folder}/engine.sock", folder / "log"
    parent = os.getpid()
    with open(log, "wb") as output:
        service = subprocess.Popen(
            words(path),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            preexec_fn=lambda: linux.die_with_parent(parent),  # noqa: PLW1509 - klock has one thread
            # Signals of the terminal are for klock, which has containers to remove before the service may go.
            start_new_session=True,
        )
    atexit.register(_end, service, stack, parent)
    deadline = time.monotonic() + _PATIENCE
    while not listens(path):
        if service.poll() is not None or time.monotonic() > deadline:
            said = log.read_text("utf-8", "replace").strip()[-2000:]
            raise EngineError(f"{what}: {said or 'no output'}", hint=hint)
        time.sleep(_PAUSE)
    return path


def _end(service: subprocess.Popen[bytes], stack: ExitStack, owner: int) -> None:
    if os.getpid() != owner:  # a fork of klock's
        return
    with suppress(ProcessLookupError):
        service.terminate()
    try:
        service.wait(5)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()
    stack.close()
