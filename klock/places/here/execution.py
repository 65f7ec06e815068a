"""Commands in the container that klock itself runs in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from klock.errors import EngineError
from klock.places.protocol import OWN_STREAMS, Streams
from klock.places.terminal import has_controlling_terminal
from klock.workshop.protocol import Command, Network
from klock.workshop.users import find_user, give_streams
from klock.workshop.working_dir import missing_working_dir

__all__ = ["execute"]

_PATIENCE: Final = 5.0
"""Seconds a service has to end."""

_FORWARDED: Final = (
    *(signal.SIGTERM, signal.SIGHUP, signal.SIGINT),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)


def execute(
    command: Command,
    *,
    services: Sequence[Command] = (),
    streams: Streams = OWN_STREAMS,
    takes_over: bool = False,
) -> int:
    """Starts the services and the command, forwards signals to the command and returns its status.

    With `takes_over` and no services it becomes the command instead, as the entrypoint of a container should. What
    services print goes where the command's output goes.
    """
    if command.network is Network.NONE:
        raise EngineError(
            "a command in a running container has that container's network",
            hint="leave out --network none, or start the container without a network",
        )
    if command.mounts:
        raise EngineError("nothing can be mounted into a running container", hint="start it with the mount")
    _refuse_sharing(command)
    _provide_working_dir(command)
    if takes_over and not services and streams == OWN_STREAMS:
        _become(command)
    with _Forwarding() as forwarding, contextlib.ExitStack() as running:
        for service in services:
            running.callback(_end, _started(service, (subprocess.DEVNULL, *streams[1:])))
        try:
            child = _started(command, streams)
        except OSError as error:
            return _is_no_program(command, error)
        return forwarding.wait(child)


def _refuse_sharing(command: Command) -> None:
    """What a container shares with its machine was decided when it started."""
    asked = {
        "--host-pid": command.host_pid,
        "--host-ipc": command.host_ipc,
        "--shm-size": command.shm_size is not None,
    }
    for option, is_asked in asked.items():
        if is_asked:
            raise EngineError(
                f"{option}: a command in a running container has that container's processes and memory",
                hint=f"leave out {option}, or start the container so: docker run "
                + {"--host-pid": "--pid host", "--host-ipc": "--ipc host", "--shm-size": "--shm-size SIZE"}[option],
            )


class _Forwarding:
    """Notes the signals that a command should get from the moment its services start, and passes them on to it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __enter__(self) -> _Forwarding:
        self._before = {number: signal.signal(number, self._forward) for number in _FORWARDED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _forward(self, number: int, _: object) -> None:
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    def wait(self, child: subprocess.Popen[bytes]) -> int:
        """The status of the child when it has ended, as a shell would say it."""
        self._child = child
        for number in self._early:
            child.send_signal(number)
        status = child.wait()
        return status if status >= 0 else 128 - status


def _become(command: Command) -> None:
    user = find_user("/", command.user)
    _provide_working_dir(command)
    os.chdir(command.working_dir)
    give_streams(user)
    if (user.uid, user.gid) != (os.geteuid(), os.getegid()):
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execvpe(command.argv[0], command.argv, dict(command.environment))
    except OSError as error:
        os._exit(_is_no_program(command, error))


def _is_no_program(command: Command, error: OSError) -> int:
    """The exit status of a shell that was asked for such a program. Raises EngineError when that is not the reason."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
        raise EngineError(f"cannot start {command.argv[0]}: {error.strerror}") from error
    status, words = (126, "not an executable file") if isinstance(error, PermissionError) else (127, "no such program")
    os.write(2, f"klock: {words}: {command.argv[0]}\n".encode("utf-8", "surrogateescape"))
    return status


def _provide_working_dir(command: Command) -> None:
    if command.makes_working_dir:
        os.makedirs(command.working_dir, mode=0o755, exist_ok=True)
    elif not os.path.isdir(command.working_dir):
        raise missing_working_dir(command.working_dir)


def _end(service: subprocess.Popen[bytes]) -> None:
    """Ends a service and what it started: politely, then for certain."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(service.pid, number)
        with suppress(subprocess.TimeoutExpired):
            service.wait(_PATIENCE)


def _started(command: Command, streams: Streams) -> subprocess.Popen[bytes]:
    """A service is started in a group of its own, so that all of it can be ended. So is a command, for it to get once
    what is sent to klock's group, unless there is a terminal, which has to find it in klock's group.

    Its script is read from a file that has no name, as the arguments of a process are everybody's to read.
    """
    user = find_user("/", command.user)
    give_streams(user)
    _provide_working_dir(command)
    shell = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
    script = None if command.script is None else _script(command.script)
    try:
        return subprocess.Popen(
            command.argv if script is None else (shell, f"/proc/self/fd/{script}"),
            env=dict(command.environment),
            cwd=command.working_dir,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            user=user.uid,
            group=user.gid,
            extra_groups=user.groups,
            process_group=None if script is None and has_controlling_terminal() else 0,
            pass_fds=() if script is None else (script,),
        )
    finally:
        if script is not None:
            os.close(script)


def _script(text: str) -> int:
    descriptor = os.memfd_create("script", 0)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
