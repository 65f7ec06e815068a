"""Runs commands in a synced environment, on this process's terminal, with its services beside them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from klock.places.protocol import OWN_STREAMS, Streams
from klock.places.terminal import has_controlling_terminal
from klock.workshop.commands import Sandbox
from klock.workshop.namespace import NamespaceProcess
from klock.workshop.overlay import Area, WritableLayer
from klock.workshop.scratch import find_holder, held, holding_mounts
from klock.workshop.started import Started

if TYPE_CHECKING:
    from klock.workshop.command import Command

__all__ = ["Opened", "execute"]

Opened: TypeAlias = AbstractContextManager[tuple[WritableLayer, Sequence[Path]]]
"""An environment's writable layer, and the folders below it, the lowest first. Nobody replaces it until the end."""

_GOES_ON: Final = 1.0
"""Seconds after which a command whose service was killed has not ended for the same reason."""
_FOREVER: Final = 3600.0
_TURN: Final = 0.1
"""Seconds after which it is looked whether a process has ended whose SIGCHLD may never come."""
_KILLED: Final = (-signal.SIGKILL, 128 + signal.SIGKILL)
_FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_SENT_BY_KERNEL: Final = 0x80  # SI_KERNEL: from the terminal, which sends to the whole foreground itself


def execute(
    command: Command,
    services: Sequence[Command],
    *,
    opened: Callable[[], Opened],
    area: str,
    log: Path,
    ca_bundle: Path | None,
    streams: Streams = OWN_STREAMS,
) -> int:
    """Runs a command to its end and returns its status; `log` takes what services print.

    A second command joins the mounts of the first: overlayfs does not allow one writable layer in two mounts.
    """
    mounted, say_mounted = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_terminal_kept())
        stack.enter_context(_signals_blocked())
        with opened() as (writable, folders):
            join = find_holder(writable.folder)
            stack.enter_context(held(writable.folder))
            # Who signals a whole group, as `timeout` and runners of jobs do, means each process once: in a group of its
            # own the command gets what klock passes on, and nothing beside. A terminal has to find it in klock's group.
            in_own_group = streams != OWN_STREAMS or not has_controlling_terminal()

            def task() -> int:
                if in_own_group:
                    os.setpgid(0, 0)
                place = Area(area) if join else Area.create(area)
                if not join:
                    working = [command.working_dir] if command.makes_working_dir else []
                    place.mount_to_write(folders, writable, mounts=command.mounts, folders=working)
                with holding_mounts(writable.folder):
                    os.close(say_mounted)
                    commands = [command, *services]
                    joined = join is not None
                    sandbox = Sandbox(place, writable, commands, ca_bundle=ca_bundle, is_step=False, joined=joined)
                    try:
                        return _supervise(sandbox, command, services, log, streams)
                    finally:
                        sandbox.close()

            process = stack.enter_context(NamespaceProcess(task, join=join))
            os.close(say_mounted)
            os.read(mounted, 1)  # the end of the pipe: mounted, or failed
            os.close(mounted)
        _wait_and_forward(process.pid, lambda: process.pid)
        return process.result()


def _supervise(sandbox: Sandbox, command: Command, services: Sequence[Command], log: Path, streams: Streams) -> int:
    """In the namespace process: starts everything, forwards signals to the command and returns its status."""
    parent = os.getppid()
    started = sandbox.start(command, stdio=streams, own_session=False, held=bool(services))
    if isinstance(started, int):
        return started
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    running = [sandbox.start(service, stdio=(nothing, written, written), own_session=True) for service in services]
    started.release()
    pairs = [(command, each) for command, each in zip(services, running, strict=True) if not isinstance(each, int)]
    beside = {each.pid: (command, each) for command, each in pairs}
    told, alone = partial(_say_ended, log), lambda: os.getppid() != parent
    if not _wait_and_forward(started.pid, started.command_pid, beside, on_end=told, is_alone=alone):
        return 128 + signal.SIGKILL
    return started.wait()


def _say_ended(log: Path, service: Command, status: int) -> None:
    """Of a service that failed it is said at once: whoever waits for it would wait in vain."""
    if status == 0:  # it may have left a daemon
        return
    from klock.places.ended import said_of

    said = said_of(service, status, log)
    with contextlib.suppress(OSError):
        os.write(2, said.encode("utf-8", "backslashreplace") + b"\n")


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Signals wait for `_wait_and_forward`, in this process and in namespace processes; commands unblock them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_FORWARDED, signal.SIGCHLD))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_and_forward(
    child: int,
    receiver: Callable[[], int | None],
    others: Mapping[int, tuple[Command, Started]] = MappingProxyType({}),
    *,
    on_end: Callable[[Command, int], None] = lambda _, __: None,
    is_alone: Callable[[], bool] = lambda: False,
) -> bool:
    """Returns when `child` has ended, without reaping it; until then passes signals on to the process of `receiver`.
    Or returns False when nobody waits for it any more: at a signal, `is_alone` says so.

    `others`, by process id, are reaped meanwhile, and `on_end` is told their statuses: a process namespace does not end
    before all of its processes are. When the command ends, the kernel kills them all, and they may be seen to end
    first: of one that was killed nothing is told before it is clear that the command goes on.
    """
    waiting = dict(others)
    killed: list[tuple[float, Command, int]] = []
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for pid, (command, started) in list(waiting.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del waiting[pid]
                known = started.handshake.exit_status()
                code = os.waitstatus_to_exitcode(status) if known is None else known
                if code in _KILLED:
                    killed.append((time.monotonic() + _GOES_ON, command, code))
                else:
                    on_end(command, code)
        while killed and killed[0][0] <= time.monotonic():
            _, command, code = killed.pop(0)
            on_end(command, code)
        seconds = max(0.0, killed[0][0] - time.monotonic()) if killed else _FOREVER
        # Another thread of whoever called klock may be given SIGCHLD, and drops it.
        seconds = seconds if _has_one_thread() else min(seconds, _TURN)
        received = signal.sigtimedwait((*_FORWARDED, signal.SIGCHLD), seconds)
        if is_alone():
            return False
        if received is None or received.si_signo == signal.SIGCHLD or received.si_code == _SENT_BY_KERNEL:
            continue
        target = receiver()
        if target is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, received.si_signo)
    return True


def _has_one_thread() -> bool:
    return sum(1 for _ in Path("/proc/self/task").iterdir()) == 1


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Brings this process back into the terminal's foreground if a shell in the environment took it, and has ended.

    Takes it from nobody who is still there: while klock is stopped or in the background, the user's own shell has it,
    and would find its terminal closed.
    """
    try:
        in_foreground = os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        in_foreground = False
    yield
    if in_foreground and _has_nobody_in_foreground():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        with contextlib.suppress(OSError):
            os.tcsetpgrp(0, os.getpgrp())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _has_nobody_in_foreground() -> bool:
    """Whether the processes that the terminal belongs to are gone."""
    try:
        group = os.tcgetpgrp(0)
        if group > 0:  # else it is a group of another namespace
            os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return group <= 0
