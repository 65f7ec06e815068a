"""A container's streams on this process's own: stdin, stdout, stderr, the terminal and its size, and signals.

The protocol is the Docker API's "attach": one connection. With a terminal its bytes are the terminal's; without one,
what arrives comes in frames of 8 bytes (the stream, three zeros, the length) and content.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import stat
import struct
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from klock.errors import EngineError
from klock.places.protocol import Streams

__all__ = ["FORWARDED", "Attachment", "has_terminal", "signals_noted", "signals_raised", "terminal_size"]

FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

_CHUNK: Final = 1 << 16
_HEADER: Final = struct.Struct(">BxxxL")
_STDERR: Final = 2
_GRACE: Final = 10.0
"""Seconds that a command has after a signal that asks it to end: the first process of a container may not hear it."""
_ASKING_TO_END: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def has_terminal() -> bool:
    return os.isatty(0) and os.isatty(1)


def terminal_size() -> tuple[int, int]:
    """Rows and columns of the terminal at stdout."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


@contextmanager
def signals_noted() -> Iterator[int]:
    """Signals do nothing but write their numbers to a pipe, whose other end this is."""
    # Not pipe2(2), which is Linux's: an engine may be asked from elsewhere.
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    numbers = (*FORWARDED, signal.SIGWINCH)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    old = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield readable
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


@contextmanager
def signals_raised() -> Iterator[None]:
    """Signals that end a process raise SystemExit, so that what has to be tidied up is."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Attachment:
    """Passes bytes both ways until the container's end is closed. `kill` and `resize` ask the engine. With `terminal`
    `streams` are this process's own.

    No direction waits for another one, nor do signals: what cannot be written yet is kept, and its source is not read
    until it is. So at most one piece of input and one of output are held, however much flows.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        streams: Streams,
        signals: int,
        terminal: bool,
        kill: Callable[[int], None],
        resize: Callable[[int, int], None],
    ) -> None:
        self._connection = connection
        self._stdin, self._stdout, self._stderr = streams
        self._signals = signals
        self._terminal = terminal
        self._kill = kill
        self._resize = resize
        self._deadline: float | None = None
        self._input = memoryview(b"")
        self._has_input = True
        self._received = bytearray()
        self._output: deque[tuple[int, memoryview]] = deque()
        self._is_open = True
        self._was_ended = False

    def run(self) -> None:
        """Raises EngineError when the end comes in the middle of output."""
        self._connection.setblocking(False)
        with self._raw_terminal():
            if self._terminal:
                self._resize(*terminal_size())
            # A command that has ended takes no more input, though there may be some without end.
            while self._is_open or self._output:
                self._pass_what_is_ready()
        if self._received and not self._was_ended:
            # podman writes its own error there, without a frame around it.
            words = bytes(self._received[:2000]).decode("utf-8", "replace").strip()
            raise EngineError(
                f"the engine closed the connection during the command's output: {words}", hint="run the command again"
            )

    def _pass_what_is_ready(self) -> None:
        reading: list[int | socket.socket] = [self._signals]
        writing: list[int | socket.socket] = []
        if self._output:
            writing.append(self._output[0][0])
        else:
            reading.append(self._connection)
        if self._input:
            writing.append(self._connection)
        elif self._has_input:
            reading.append(self._stdin)
        seconds = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        readable, writable, _ = select.select(reading, writing, [], seconds)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            self._end_command()
            return
        if self._signals in readable:
            self._pass_signals()
        if self._stdin in readable:
            self._read_input()
        if self._connection in writable:
            self._send_input()
        if self._connection in readable:
            self._receive_output()
        if self._output and self._output[0][0] in writable:
            self._write_output()

    def _pass_signals(self) -> None:
        for number in os.read(self._signals, _CHUNK):
            if number == signal.SIGWINCH:
                if self._terminal:
                    self._resize(*terminal_size())
                continue
            self._kill(number)
            if number in _ASKING_TO_END and self._deadline is None:
                self._deadline = time.monotonic() + _GRACE

    def _end_command(self) -> None:
        """Kills it. Engines wait for its output to be taken, so what nobody takes here is dropped before."""
        self._was_ended = True
        if self._output:
            self._output.clear()
            self._is_open = False
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self._kill(signal.SIGKILL)

    def _read_input(self) -> None:
        try:
            self._input = memoryview(os.read(self._stdin, _CHUNK))
        except BlockingIOError:  # another process that shares it was faster
            return
        except OSError:  # a terminal that has hung up
            self._input = memoryview(b"")
        if not self._input:
            self._end_input()

    def _send_input(self) -> None:
        try:
            self._input = self._input[self._connection.send(self._input) :]
        except BlockingIOError:
            return
        except OSError:  # a command that reads no more
            self._input = memoryview(b"")
            self._has_input = False

    def _end_input(self) -> None:
        self._has_input = False
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def _receive_output(self) -> None:
        try:
            chunk = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except ConnectionResetError:
            chunk = b""
        self._is_open = bool(chunk)
        if self._terminal:
            self._put_out(self._stdout, chunk)
            return
        self._received += chunk
        while len(self._received) >= _HEADER.size:
            stream, length = _HEADER.unpack_from(self._received)
            end = _HEADER.size + length
            if len(self._received) < end:
                break
            self._put_out(
                self._stderr if stream == _STDERR else self._stdout, bytes(self._received[_HEADER.size : end])
            )
            del self._received[:end]

    def _put_out(self, descriptor: int, content: bytes) -> None:
        if content:
            self._output.append((descriptor, memoryview(content)))

    def _write_output(self) -> None:
        descriptor, content = self._output.popleft()
        with contextlib.suppress(BlockingIOError):  # a non-blocking pipe of another process, which is full
            content = content[os.write(descriptor, content[: _writable_at_once(descriptor)]) :]
        if content:
            self._output.appendleft((descriptor, content))

    @contextmanager
    def _raw_terminal(self) -> Iterator[None]:
        if not self._terminal:
            yield
            return
        before = termios.tcgetattr(0)
        try:
            tty.setraw(0)
            yield
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _writable_at_once(descriptor: int) -> int:
    """How much can be written without waiting to what `select` calls writable; a file takes any amount (pipe(7))."""
    return _CHUNK if stat.S_ISREG(os.fstat(descriptor).st_mode) else select.PIPE_BUF
