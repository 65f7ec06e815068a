"""A process that stays where commands are to run, as an account, in a network, in a container, and starts them there.

    with subprocess.Popen([python, "resident.py", str(theirs.fileno())], pass_fds=[theirs.fileno()]): ...
    Resident(ours).run(["klock", "check"], cwd=project, env={"KLOCK_CACHE_DIR": store})

It has klock imported, and forks for a klock command: to start Python and import klock takes longer than most commands
do. Such a fork is a process like any other, with arguments, variables, a folder and streams of its own; it comes from a
process with one thread, and ends as Python ends. What an interpreter takes from its environment when it starts, the
locale and the variables named PYTHON..., is the resident's. Other programs are executed.

`kill_at` ends a klock command at a moment that is counted, not timed: before the n-th thing it does to the system that
Python tells of (PEP 578): a file renamed, a folder made, a process started. So it can be tried at each of them.

This file is also the resident's program. It is copied beside klock, so it imports nothing of the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import mmap
import os
import pkgutil
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

__all__ = ["KLOCK", "Ended", "Resident", "moments", "starts_an_interpreter"]

KLOCK: Final = "klock"
"""The program that is forked rather than executed."""

_LENGTH: Final = struct.Struct("!Q")
_COUNT: Final = struct.Struct("Q")
_STREAMS: Final = 3
_EVENTS: Final = frozenset(
    {
        *("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime"),
        *("os.chmod", "os.chown", "os.setxattr", "os.removexattr", "os.fork", "os.exec", "os.posix_spawn"),
        *("subprocess.Popen", "socket.connect", "fcntl.flock"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended that was to be killed: `status` is -9 if it was, and `events` is how many it came to."""

    status: int
    events: int
    stdout: str
    stderr: str


class Resident:
    """Where a resident is heard: the other end of the socket it was given."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str | os.PathLike[str],
        env: Mapping[str, str],
        keep_environment: bool = False,
        text_input: str = "",
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, as `subprocess.run` does. `env` is all of its environment, or with
        `keep_environment` what is added to the resident's own. `timeout` is in seconds."""
        request = {"env": dict(env), "keep_environment": keep_environment, "timeout": timeout}
        answer, out, err = self._ask({**request, "argv": list(argv), "cwd": os.fspath(cwd)}, text_input)
        if answer["timed_out"]:
            raise subprocess.TimeoutExpired(list(argv), timeout, out, err)
        return subprocess.CompletedProcess(list(argv), answer["status"], out, err)

    def kill_at(
        self,
        event: int,
        argv: Sequence[str],
        *,
        cwd: str | os.PathLike[str],
        env: Mapping[str, str],
        keep_environment: bool = False,
    ) -> Ended:
        """Runs a klock command that gets SIGKILL before its `event`-th event, from 1; with 0 it comes to its end."""
        request = {
            "argv": list(argv),
            "cwd": os.fspath(cwd),
            "env": dict(env),
            "keep_environment": keep_environment,
            "timeout": 600,
            "kill_at": event,
        }
        answer, out, err = self._ask(request, "")
        return Ended(status=answer["status"], events=answer["events"], stdout=out, stderr=err)

    def _ask(self, request: Mapping[str, Any], text_input: str) -> tuple[dict[str, Any], str, str]:
        pipes = [os.pipe() for _ in range(_STREAMS)]
        (stdin, give), (take_out, stdout), (take_err, stderr) = pipes
        try:
            _send(self._wire, request, [stdin, stdout, stderr])
        finally:
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)
        out, err = _communicate(give, text_input.encode(), [take_out, take_err])
        answer, _ = _receive(self._wire)
        if answer is None:
            raise RuntimeError(f"the process that was to run {request['argv']} is gone")
        return answer, _text(out), _text(err)

    def close(self) -> None:
        """At this the resident ends."""
        self._wire.close()


def starts_an_interpreter(env: Mapping[str, str]) -> bool:
    """Whether variables are among these that a program reads when it starts: then a resident's fork is not the same."""
    return any(name.startswith(("LD_", "PYTHON", "LANG", "LC_")) for name in env)


def moments(events: int, number: int) -> list[int]:
    """`number` events of so many, from the first to the last, evenly spread."""
    return [1 + (events - 1) * step // (number - 1) for step in range(number)]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def _communicate(give: int, content: bytes, takes: Sequence[int]) -> list[bytes]:
    """Writes `content` to one pipe while the others are read to their end; closes all of them."""
    found: dict[int, bytearray] = {take: bytearray() for take in takes}
    os.set_blocking(give, False)
    left = memoryview(content)
    with selectors.DefaultSelector() as selector:
        selector.register(give, selectors.EVENT_WRITE)
        for take in takes:
            selector.register(take, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                if key.fd == give:
                    try:
                        left = left[os.write(give, left[:65536]) :] if left else left
                    except BrokenPipeError:
                        left = left[:0]
                    done = not left
                else:
                    chunk = os.read(key.fd, 1 << 16)
                    found[key.fd] += chunk
                    done = not chunk
                if done:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return [bytes(found[take]) for take in takes]


def _send(wire: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    raw = json.dumps(message).encode()
    head = _LENGTH.pack(len(raw))
    if descriptors:
        socket.send_fds(wire, [head], list(descriptors))
    else:
        wire.sendall(head)
    wire.sendall(raw)


def _receive(wire: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """A message and what came with it; None when the other end is closed."""
    head, descriptors, _, _ = socket.recv_fds(wire, _LENGTH.size, _STREAMS)
    if not head:
        return None, []
    raw = b""
    (length,) = _LENGTH.unpack(head)
    while len(raw) < length:
        raw += wire.recv(length - len(raw))
    message: dict[str, Any] = json.loads(raw)
    return message, list(descriptors)


# -- the resident's own side


def _import_klock() -> None:
    import klock

    for module in pkgutil.walk_packages(klock.__path__, "klock."):
        # Some are programs for another interpreter.
        if not module.name.endswith(("__main__", "_script")):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def _serve(wire: socket.socket) -> Sequence[str]:
    """Carries out what is asked for until the wire is closed. Returns in a process that is to be klock, with its
    arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for who runs the tests
    while True:
        request, streams = _receive(wire)
        if request is None:
            sys.exit(0)
        moment, reached = os.pipe()
        gone, going = os.pipe()
        # What a command came to is seen here also when it was killed.
        count = mmap.mmap(-1, _COUNT.size)
        pid = os.fork()
        if pid == 0:
            wire.close()
            os.close(going)
            _become(request, streams)
            if "kill_at" in request:
                _count_events(count, request["kill_at"], reached, gone)
            argv: list[str] = request["argv"]
            return argv
        for descriptor in (*streams, reached, gone):
            os.close(descriptor)
        ended = _wait_for(pid, moment, request["timeout"])
        os.close(going)
        _send(wire, {**ended, "events": _COUNT.unpack(count)[0]})
        count.close()
        os.close(moment)


def _become(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Makes this process the one that was asked for; returns if it is to be klock."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    if not request["keep_environment"]:
        os.environ.clear()
    os.environ.update(request["env"])
    argv: list[str] = request["argv"]
    if argv[0] != KLOCK:
        try:
            os.execvp(argv[0], argv)
        except OSError as error:
            print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)


def _count_events(count: mmap.mmap, kill_at: int, reached: int, gone: int) -> None:
    """Counts what this process and its forks do. Who comes to that event waits there until klock itself was killed; a
    fork then goes on, as one may whose klock is killed."""

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        # Opening a file to read it changes nothing.
        if name not in _EVENTS or (name == "open" and not _writes(arguments)):
            return
        (events,) = _COUNT.unpack(count)
        _COUNT.pack_into(count, 0, events + 1)
        if events + 1 == kill_at:
            os.write(reached, b".")
            os.read(gone, 1)

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) if mode is None else not set("wax+").isdisjoint(mode)


def _be_klock() -> NoReturn:
    """Runs klock's command line and ends as an interpreter does, but for taking itself apart, which takes longer."""
    from klock.entry import main

    status = 0
    try:
        main()
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def _wait_for(pid: int, moment: int, timeout: float) -> dict[str, Any]:
    """Waits for a process to end; kills it when something comes through `moment`, or after `timeout` seconds."""
    timed_out = False
    deadline = time.monotonic() + timeout
    end = os.pidfd_open(pid)
    with selectors.DefaultSelector() as selector:
        selector.register(end, selectors.EVENT_READ)
        selector.register(moment, selectors.EVENT_READ)
        while end not in (ready := [key.fd for key, _ in selector.select(max(0.0, deadline - time.monotonic()))]):
            if moment in ready:
                selector.unregister(moment)
                if not os.read(moment, 1):  # nobody can say so any more
                    continue
            timed_out = not ready
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + timeout
    os.close(end)
    _, status = os.waitpid(pid, 0)
    return {"status": os.waitstatus_to_exitcode(status), "timed_out": timed_out}


def _opened(address: str) -> socket.socket:
    """The wire: a descriptor's number, or the path of a socket to be made."""
    if address.isdigit():
        return socket.socket(fileno=int(address))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(1)
        Path(f"{address}.new").rename(address)
        wire, _ = listening.accept()
        return wire


if __name__ == "__main__":
    _import_klock()
    sys.argv = [*_serve(_opened(sys.argv[1]))]
    _be_klock()
