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
import struct
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["FORWARDED", "Attachment", "has_terminal", "signals_noted", "terminal_size"]

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
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
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


class Attachment:
    """Passes bytes both ways until the container's end is closed. `kill` and `resize` ask the engine."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        signals: int,
        terminal: bool,
        kill: Callable[[int], None],
        resize: Callable[[int, int], None],
    ) -> None:
        self._connection = connection
        self._signals = signals
        self._terminal = terminal
        self._kill = kill
        self._resize = resize
        self._received = bytearray()
        self._deadline: float | None = None

    def run(self) -> None:
        with self._raw_terminal():
            if self._terminal:
                self._resize(*terminal_size())
            waiting: list[int | socket.socket] = [self._connection, self._signals, 0]
            while True:
                seconds = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                readable = select.select(waiting, [], [], seconds)[0]
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._deadline = None
                    self._kill(signal.SIGKILL)
                if self._signals in readable:
                    self._pass_signals()
                if 0 in readable and not self._pass_input():
                    waiting.remove(0)
                if self._connection in readable and not self._pass_output():
                    return

    def _pass_signals(self) -> None:
        for number in os.read(self._signals, _CHUNK):
            if number == signal.SIGWINCH:
                if self._terminal:
                    self._resize(*terminal_size())
                continue
            self._kill(number)
            if number in _ASKING_TO_END and self._deadline is None:
                self._deadline = time.monotonic() + _GRACE

    def _pass_input(self) -> bool:
        chunk = os.read(0, _CHUNK)
        with contextlib.suppress(OSError):  # a command that reads no more
            if chunk:
                self._connection.sendall(chunk)
            else:
                self._connection.shutdown(socket.SHUT_WR)
        return bool(chunk)

    def _pass_output(self) -> bool:
        try:
            chunk = self._connection.recv(_CHUNK)
        except ConnectionResetError:
            return False
        if self._terminal:
            _write(1, chunk)
            return bool(chunk)
        self._received += chunk
        while len(self._received) >= _HEADER.size:
            stream, length = _HEADER.unpack_from(self._received)
            end = _HEADER.size + length
            if len(self._received) < end:
                break
            _write(2 if stream == _STDERR else 1, bytes(self._received[_HEADER.size : end]))
            del self._received[:end]
        return bool(chunk)

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


def _write(descriptor: int, content: bytes) -> None:
    (sys.stdout if descriptor == 1 else sys.stderr).flush()
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
