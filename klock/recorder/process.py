"""The recorder's process: forked for one step, so that klock itself stays single-threaded, and dies with klock.

It waits for the workshop's sockets, serves them, and at the end sends its report back, pickled. When it dies before,
its sockets are gone, and with them all that the step can reach.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pickle
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from klock.errors import EngineError, KlockError
from klock.recorder.authority import Authority
from klock.recorder.doors import Doors
from klock.recorder.exchange import Source
from klock.recorder.report import Notes, Report
from klock.store import Store
from klock.temporary import temporary_folder
from klock.workshop import linux
from klock.workshop.protocol import Uplink
from klock.workshop.signals import end_at_once

__all__ = ["MakeSource", "Recorder", "ReportingSource", "run_recorder"]

_CHUNK: Final = 1 << 16
_MOST_DESCRIPTORS: Final = 253  # SCM_MAX_FD, net/scm.h
_BESIDES_PORTS: Final = 2
_SERVING: Final = b"\n"
_FINISH: Final = b"f"
_NO_DOORS: Final = Doors()


class ReportingSource(Source, Protocol):
    """A source that reports at the end what was asked of it. `notes` are those that it and whoever serves it take."""

    notes: Notes

    def report(self) -> Report: ...


MakeSource: TypeAlias = Callable[[Path], ReportingSource]
"""Makes a source in the recorder's process, given a folder for its files. What it needs is imported before that."""


class Recorder:
    """A running recorder, process `pid`, for one command. `traces` are byte strings that no layer may hold."""

    def __init__(self, *, uplink: Uplink, traces: tuple[bytes, ...], pid: int, control: socket.socket) -> None:
        self.uplink = uplink
        self.traces = traces
        self.pid = pid
        self._control = control
        self._is_alive = True

    def finish(self) -> Report:
        """What the command did on the network; to be called once, when it has ended.

        Raises EngineError when the recorder died or failed: then nobody knows what the command did.
        """
        # If no command started, the recorder still waits for its sockets; this ends the wait.
        self.uplink.channel.close()
        pickled = bytearray()
        with contextlib.suppress(ConnectionError):
            self._control.sendall(_FINISH)
            while chunk := self._control.recv(_CHUNK):
                pickled += chunk
        status = self._wait()
        if not pickled:
            raise EngineError(
                f"the recorder of the step's network ended before the step did (status {status})", hint="try again"
            )
        outcome = pickle.loads(pickled)
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, Report)
        return outcome

    def close(self) -> None:
        """Kills the process if it still runs."""
        self.uplink.channel.close()
        if self._is_alive:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()
        self._control.close()

    def _wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self._is_alive = False
        return os.waitstatus_to_exitcode(status)


@contextmanager
def run_recorder(
    make_source: MakeSource, *, ports: Sequence[int], store: Store, doors: Doors = _NO_DOORS
) -> Iterator[Recorder]:
    """Forks a recorder that serves HTTP on `ports` and at `doors`. Only one thread may be alive in this process."""
    for needed in ("service", "pools"):  # they take long to import: once here, and not in each child
        importlib.import_module(f"klock.recorder.{needed}")

    ports = tuple(dict.fromkeys((*ports, *doors.ports)))
    if len(ports) + len(doors.loopback) > _MOST_DESCRIPTORS - _BESIDES_PORTS:
        raise EngineError(f"a step uses {len(ports)} ports for HTTP, and klock can listen on 251")
    authority = Authority()
    with temporary_folder("recorder", within=store.tmp) as folder:
        channel, far_channel = socket.socketpair()
        control, far_control = socket.socketpair()
        klock = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(make_source, folder, authority, doors, channel=far_channel, control=far_control, parent=klock)
        far_channel.close()
        far_control.close()
        uplink = Uplink(channel=channel, ports=ports, certificate=authority.certificate, loopback=doors.loopback)
        recorder = Recorder(uplink=uplink, traces=authority.traces, pid=pid, control=control)
        try:
            yield recorder
        finally:
            recorder.close()


# -- in the recorder's process


def _become(
    make_source: MakeSource,
    folder: Path,
    authority: Authority,
    doors: Doors,
    *,
    channel: socket.socket,
    control: socket.socket,
    parent: int,
) -> None:
    """What the child does; never returns."""
    outcome: object
    try:
        linux.die_with_parent(parent)
        end_at_once()
        # Ctrl-C and its end reach all processes of a terminal: klock ends this one when it has ended the step.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _drop_descriptors({channel.fileno(), control.fileno()})
        outcome = _serve(make_source(folder), authority, doors, channel, control)
    except BaseException as error:
        if not isinstance(error, KlockError):
            error = EngineError(f"the recorder failed: {''.join(traceback.format_exception(error))}")
        outcome = error
    try:
        control.sendall(pickle.dumps(outcome, protocol=pickle.HIGHEST_PROTOCOL))
    finally:
        os._exit(0)


def _drop_descriptors(kept: set[int]) -> None:
    """Closes what klock had open: its locks, and pipes whose readers wait for the end."""
    # An object of klock's that is collected later would close its number, which is another descriptor's by then.
    gc.freeze()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    edges = sorted({0, 1, 2, *kept})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for low, high in zip(edges, [*edges[1:], hard if hard != resource.RLIM_INFINITY else 1 << 30], strict=True):
        os.closerange(low + 1, high)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _serve(
    source: ReportingSource, authority: Authority, doors: Doors, channel: socket.socket, control: socket.socket
) -> Report:
    from klock.recorder.service import Service

    sockets = _receive(channel)
    if sockets is not None:
        resolver, packets, *listeners = sockets
        service = Service(
            resolver=resolver,
            packets=packets,
            listeners=listeners,
            authority=authority,
            source=source,
            notes=source.notes,
            doors=doors,
        )
        channel.sendall(_SERVING)
    channel.close()
    control.recv(1)
    if sockets is not None:
        service.finish()
    report = source.report()
    if source.notes.failures:
        raise EngineError("the recorder of the step's network failed: " + "; ".join(source.notes.failures))
    return report


def _receive(channel: socket.socket) -> list[socket.socket] | None:
    """The workshop's sockets; None when it ended without sending any."""
    message, descriptors, flags, _ = socket.recv_fds(channel, _CHUNK, _MOST_DESCRIPTORS)
    if not message:
        return None
    said = json.loads(message)
    count = len(said["ports"]) + len(said["loopback"])
    if flags & socket.MSG_CTRUNC or len(descriptors) != count + _BESIDES_PORTS:
        raise EngineError(f"the sandbox sent {len(descriptors)} sockets for {count} ports")
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]
