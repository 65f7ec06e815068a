"""A started command: the process of bubblewrap that runs it, from the fork to the exit status."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from klock.errors import EngineError
from klock.values import dataclass
from klock.workshop import linux
from klock.workshop.handshake import Handshake
from klock.workshop.namespace import identity_map
from klock.workshop.users import User, give_streams

__all__ = ["Launch", "NotStarted", "Started"]

_LOWEST_PORT: Final = "sys/net/ipv4/ip_unprivileged_port_start"
_LAST_PROCESS_ID: Final = "sys/kernel/ns_last_pid"
_OTHER_PROCESS_IDS: Final = 4000


class NotStarted(EngineError):
    """bubblewrap could not start a command. It wrote why to the command's stderr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A bubblewrap process and the pipes on which it talks of its command."""

    pid: int
    handshake: Handshake

    def map_ids(self) -> None:
        """Gives the command's user namespace all ids that are mapped here. Call it once, before all else."""
        try:
            # Nothing is raised when bubblewrap could not start; `wait` raises the reason.
            if self.handshake.wait_until_made() and (child := self.command_pid()) is not None:
                for kind in ("uid", "gid"):
                    Path(f"/proc/{child}/{kind}_map").write_text(identity_map(kind), "ascii")
        finally:
            self.handshake.say_mapped()

    def release(self) -> None:
        """Lets a command that was started `held` begin."""
        self.handshake.say_go()

    def wait(self) -> int:
        """The command's exit status. Raises EngineError when bubblewrap could not start it."""
        _, status = os.waitpid(self.pid, 0)
        if (status_of_command := self.handshake.exit_status()) is not None:
            return status_of_command
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return 128 - code
        from klock.workshop.container import is_container

        raise NotStarted(
            f"bubblewrap could not start the command (status {code})",
            hint="in a container, klock needs one that may mount /proc: --security-opt systempaths=unconfined"
            if is_container(os.environ)
            else "the sandbox needs user namespaces and a /proc of its own; docs/laptops.md has another way",
        )

    def is_over(self, seconds: float) -> bool:
        """Waits until the command ended, at most `seconds`."""
        descriptor = os.pidfd_open(self.pid)
        try:
            return bool(select.select([descriptor], [], [], seconds)[0])
        finally:
            os.close(descriptor)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def command_pid(self) -> int | None:
        """The process id of the command as seen from here; None before it was started."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()
        except OSError:
            return None
        # When the first bubblewrap is process 1 it also inherits orphans; its own child is the oldest.
        return min(map(int, children), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a forked process has to become: the program `argv`, as `user` with `groups` besides the user's own.

    `files` are descriptors that `argv` names, and belong to this launch; `stdio` stays open here. `proc` is an empty
    folder for the /proc of this process namespace. `opens_any_port`: the command may listen on every port, since its
    network is its own. `host_pid`: there is no such namespace, and /proc is the machine's. `varied`: with other process
    ids and one CPU less than usual.
    """

    argv: tuple[str, ...]
    user: User
    groups: Sequence[int]
    proc: str
    stdio: tuple[int, int, int]
    files: Sequence[int]
    own_session: bool
    opens_any_port: bool
    host_pid: bool
    varied: bool

    def start(self, handshake: Handshake) -> Started:
        """Forks, and returns when the command's ids are mapped."""
        pid = os.fork()
        if pid == 0:
            self._become([*handshake.passed, *self.files])
        for descriptor in self.files:
            os.close(descriptor)
        handshake.close_passed()
        started = Started(pid=pid, handshake=handshake)
        started.map_ids()
        return started

    def _become(self, passed: Sequence[int]) -> NoReturn:
        try:
            linux.die_with_parent(os.getppid())
            if self.own_session:
                os.setsid()
            for number, descriptor in enumerate(self.stdio):
                os.dup2(descriptor, number)
            for descriptor in passed:
                os.set_inheritable(descriptor, True)
            if self.host_pid:
                linux.mount("/proc", self.proc, None, flags=linux.MS_BIND | linux.MS_REC)
            else:
                # By a member of the process namespace; bubblewrap would show the host's, as it does not make it.
                linux.mount("proc", self.proc, "proc", flags=linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
            if self.opens_any_port:
                # The command's capabilities do not hold in its network, which belongs to a namespace above its own.
                Path(f"{self.proc}/{_LOWEST_PORT}").write_text("0", "ascii")
            if self.varied:
                _become_another_machine(self.proc)
            # bubblewrap reads /proc/<child>/ns before it changes the root: it must be this namespace's /proc as well.
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount(self.proc, "/proc", "", flags=linux.MS_BIND)
            give_streams(self.user)
            os.setgroups([*self.user.groups, *self.groups])
            os.setresgid(self.user.gid, self.user.gid, self.user.gid)
            os.setresuid(self.user.uid, self.user.uid, self.user.uid)
            for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(ignored_by_python, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execv(self.argv[0], self.argv)
        except OSError as error:
            os.write(2, f"klock: cannot start {self.argv[0]}: {error}\n".encode())
        finally:
            os._exit(1)


def _become_another_machine(proc: str) -> None:
    """Changes what programs may write down although it is not part of their input: process ids and the number of CPUs.

    `proc` is the /proc of a new process namespace (pid_namespaces(7)).
    """
    with contextlib.suppress(FileNotFoundError):  # a kernel without CONFIG_CHECKPOINT_RESTORE
        Path(f"{proc}/{_LAST_PROCESS_ID}").write_text(str(_OTHER_PROCESS_IDS), "ascii")
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[: max(1, len(processors) - 1)])
