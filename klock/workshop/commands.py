"""Runs commands in a mounted tree with bubblewrap, inside a namespace process.

bubblewrap (bwrap(1)) changes the root, provides /dev and /proc, takes away rights and starts the command. The other
namespaces are made here, once, so that a command and its services share them. The first bubblewrap is process 1 of
the process namespace. That matters twice: when it ends the kernel ends all others, and a Ctrl-C on the terminal, which
reaches every process of the foreground, cannot kill it, only the command.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from klock.errors import EngineError
from klock.workshop import linux, trust
from klock.workshop.cable import enter_empty_network, enter_recorded_network
from klock.workshop.namespace import identity_map
from klock.workshop.overlay import Area, WritableLayer, make_mount_point, resolve
from klock.workshop.protocol import RESOLVER, SCRIPT, Command, Mount, Network, Uplink
from klock.workshop.seccomp import system_call_filter
from klock.workshop.users import User, find_user, give_streams
from klock.workshop.working_dir import missing_working_dir

__all__ = ["Sandbox", "Started", "find_bubblewrap"]

# What shells exit with.
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
"""The exit status of a command that does not exist, as shells have it."""

_HOSTNAME: Final = "klock"
_CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What package managers and daemons need; what only a real root could use, or use against the host, is not here."""

_READ_ONLY_PROC: Final = ("acpi", "asound", "bus", "driver", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger")
"""Settings of the whole machine. As root klock maps ids unchanged, so the sandbox's root owns these files too: the
kernel would let it write them without any capability."""

_LOWEST_PORT: Final = "sys/net/ipv4/ip_unprivileged_port_start"


def find_bubblewrap() -> str:
    import shutil

    program = shutil.which("bwrap")
    if program is None:
        raise EngineError(
            "bubblewrap (bwrap) is not installed",
            hint="install it with: apt-get install bubblewrap; to change the container that klock runs in: --here",
        )
    return program


@dataclass(slots=True)
class Started:
    """A bubblewrap process and the pipe on which it reports its command."""

    pid: int
    reports: int
    go: int | None = None

    def release(self) -> None:
        """Lets a command that was started `held` begin."""
        if self.go is not None:
            os.close(self.go)
            self.go = None

    def wait(self) -> int:
        """The command's exit status. Raises EngineError when bubblewrap could not start it."""
        _, status = os.waitpid(self.pid, 0)
        for line in _read_all(self.reports).splitlines():
            if isinstance(status_of := json.loads(line).get("exit-code"), int):
                return status_of
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return 128 - code
        from klock.workshop.container import is_container

        raise EngineError(
            f"bubblewrap could not start the command (status {code}); its own message is in the command's output",
            hint="in a container, klock needs one that may mount /proc: --security-opt systempaths=unconfined"
            if is_container(os.environ)
            else "bubblewrap's message says what it could not do",
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


class Sandbox:
    """A mounted tree made ready for commands. Made once in a namespace process; all its commands see each other."""

    def __init__(
        self,
        area: Area,
        writable: WritableLayer,
        commands: Sequence[Command],
        *,
        ca_bundle: Path | None,
        is_step: bool,
        joined: bool = False,
    ) -> None:
        """`commands`: those to be started; the network is the first one's.

        `is_step`: they make a layer. Such commands do without the host's /sys, which differs by machine, and without
        system calls that others may need.
        `joined`: another process made the area ready already, for commands that still run.
        """
        self._bubblewrap = find_bubblewrap()
        self._root = area.merged
        self._shared_memory = area.shared_memory
        self._network = commands[0].network
        self._is_step = is_step
        self._made: list[str] = []
        self._started = 0
        self._configuration = area.path
        if not joined:
            self._mount_temporary(writable)
            self._write_network_files()
        self._variables = self._provide_certificates(commands[0].environment, ca_bundle)
        self._users = {command.user: find_user(self._root, command.user) for command in commands}
        self._enter_namespaces()

    def _mount_temporary(self, writable: WritableLayer) -> None:
        flags = linux.MS_NOSUID | linux.MS_NODEV
        linux.mount("tmpfs", self._mount_point("/run", is_folder=True), "tmpfs", flags=flags, options="mode=0755")
        # On disk and not in memory: builds unpack gigabytes there.
        linux.mount(str(writable.tmp), self._mount_point("/tmp", is_folder=True), None, flags=linux.MS_BIND)

    def _provide_certificates(self, environment: Mapping[str, str], ca_bundle: Path | None) -> dict[str, str]:
        """Writes what commands need to trust their network, and returns the variables that name it."""
        if isinstance(self._network, Uplink):
            files = trust.recorded_files(self._root, environment, self._network.certificate)
        elif self._network is Network.HOST and ca_bundle is not None:
            files = trust.host_files(ca_bundle.read_bytes())
        else:
            return {}
        for path, content in files.items():
            inside = resolve(self._root, path)
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            Path(inside).write_bytes(content)
        return trust.variables_of(files)

    def _write_network_files(self) -> None:
        hosts = f"127.0.0.1 localhost {_HOSTNAME}\n::1 localhost ip6-localhost ip6-loopback\n".encode()
        resolver = b""
        if self._network is Network.HOST:
            hosts += _content("/etc/hosts")
            resolver = _content("/etc/resolv.conf")
        elif isinstance(self._network, Uplink):
            resolver = f"nameserver {RESOLVER}\n".encode()
        for name, content in (("hosts", hosts), ("resolv.conf", resolver)):
            Path(f"{self._configuration}/{name}").write_bytes(content)

    def _enter_namespaces(self) -> None:
        linux.unshare(linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP)
        socket.sethostname(_HOSTNAME)
        if isinstance(self._network, Uplink):
            enter_recorded_network(self._network)
        elif self._network is Network.NONE:
            enter_empty_network()

    def _mount_point(self, target: str, *, is_folder: bool) -> str:
        """Where in the tree something is to be mounted. What has to be made for it is removed by `close`."""
        path = resolve(self._root, target)
        missing = path
        above = os.path.dirname(path)
        while not os.path.lexists(above):
            missing, above = above, os.path.dirname(above)
        if not os.path.lexists(missing):
            make_mount_point(path, is_folder=is_folder)
            self._made.append(missing)
        return path

    def close(self) -> None:
        """Removes the mount points that had to be made in the tree."""
        import shutil

        for path in self._made:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                # It may have gone with a folder above it that was made too.
                Path(path).unlink(missing_ok=True)

    # -- commands

    def start(
        self, command: Command, *, stdio: tuple[int, int, int], own_session: bool, held: bool = False
    ) -> Started | int:
        """Starts a command, or returns the status (and writes a line to its stderr) when it is no program of the tree.

        The first command started is process 1's child: when it ends, all others end. `held`: it waits for `release`.
        """
        self._provide_working_dir(command)
        problem = self._problem_with_program(command)
        if problem is not None:
            status, words = problem
            os.write(stdio[2], b"klock: " + words + b": " + os.fsencode(command.argv[0]) + b"\n")
            return status
        user = self._users[command.user]
        reports, report_end = os.pipe()
        wait_go, go = os.pipe() if held else (None, None)
        self._started += 1
        proc = f"{self._configuration}/proc-{os.getpid()}-{self._started}"
        os.mkdir(proc)
        made, say_made = os.pipe()
        wait_mapped, mapped = os.pipe()
        arguments = [*self._arguments(command, user, proc), "--json-status-fd", str(report_end)]
        arguments += ["--info-fd", str(say_made), "--userns-block-fd", str(wait_mapped)]
        passed = [report_end, say_made, wait_mapped]
        if wait_go is not None:
            arguments += ["--block-fd", str(wait_go)]
            passed.append(wait_go)
        system_calls = system_call_filter(in_step=self._is_step, online=self._network is Network.HOST)
        filter_file = _memory_file("filter", system_calls)
        arguments += ["--seccomp", str(filter_file)]
        passed.append(filter_file)
        # Not on the command line: everybody may read that, and variables can be secrets.
        arguments_file = _memory_file("arguments", b"".join(os.fsencode(argument) + b"\0" for argument in arguments))
        passed.append(arguments_file)
        pid = os.fork()
        if pid == 0:
            argv = [self._bubblewrap, "--args", str(arguments_file), "--", *command.argv]
            self._become(
                argv,
                user,
                proc,
                stdio,
                passed,
                own_session=own_session,
                gids=command.devices.additional_gids,
            )
        for descriptor in passed:
            os.close(descriptor)
        started = Started(pid=pid, reports=reports, go=go)
        try:
            # Nothing is said when bubblewrap could not begin; `wait` tells why.
            if _read_all(made) and (child := started.command_pid()) is not None:
                for kind in ("uid", "gid"):
                    Path(f"/proc/{child}/{kind}_map").write_text(identity_map(kind), "ascii")
        finally:
            os.close(made)
            os.close(mapped)
        return started

    def _become(
        self,
        argv: list[str],
        user: User,
        proc: str,
        stdio: tuple[int, int, int],
        passed: Sequence[int],
        *,
        own_session: bool,
        gids: Sequence[int],
    ) -> None:
        """What the forked child does; never returns."""
        try:
            linux.die_with_parent(os.getppid())
            if own_session:
                os.setsid()
            for number, descriptor in enumerate(stdio):
                os.dup2(descriptor, number)
            for descriptor in passed:
                os.set_inheritable(descriptor, True)
            # By a member of the process namespace; bubblewrap would show the host's, as it does not make the namespace.
            linux.mount("proc", proc, "proc", flags=linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
            if self._network is not Network.HOST:
                # The network is the command's own, but its capabilities do not hold there.
                Path(f"{proc}/{_LOWEST_PORT}").write_text("0", "ascii")
            # bubblewrap reads /proc/<child>/ns before it changes the root: it must be this namespace's /proc as well.
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount(proc, "/proc", "", flags=linux.MS_BIND)
            give_streams(user)
            os.setgroups([*user.groups, *gids])
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(ignored_by_python, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execv(argv[0], argv)
        except OSError as error:
            os.write(2, f"klock: cannot start {argv[0]}: {error}\n".encode())
        finally:
            os._exit(1)

    def _arguments(self, command: Command, user: User, proc: str) -> Iterator[str]:
        yield from ("--bind", self._root, "/")
        yield from ("--dev", "/dev", "--bind", self._shared_memory, "/dev/shm")
        yield from ("--bind", proc, "/proc")
        for name in _READ_ONLY_PROC:
            yield from ("--ro-bind-try", f"{proc}/{name}", f"/proc/{name}")
        if not self._is_step:
            yield from ("--ro-bind-try", "/sys", "/sys")
        for name in ("hosts", "resolv.conf"):
            yield from ("--ro-bind", f"{self._configuration}/{name}", self._inside(f"/etc/{name}", is_folder=False))
        for mount in command.mounts:
            kind = "--ro-bind" if mount.read_only else "--bind"
            yield from (kind, str(mount.source), self._inside(mount.target, is_folder=mount.source.is_dir()))
        for node in command.devices.device_nodes:
            yield from ("--dev-bind", node.host_path or node.path, self._device(node.path))
        for edit in command.devices.mounts:
            kind = "--ro-bind" if "ro" in edit.options else "--bind"
            inside = self._device(edit.container_path, is_folder=Path(edit.host_path).is_dir())
            yield from (kind, edit.host_path, inside)
        if command.script is not None:
            # On the namespace's own memory file system, which goes with it.
            script = Path(f"{proc}.script")
            script.write_text(command.script, "utf-8", "surrogateescape")
            yield from ("--ro-bind", str(script), self._inside(SCRIPT, is_folder=False))
        yield from ("--die-with-parent", "--cap-drop", "ALL", "--clearenv")
        # A namespace below bubblewrap's own, with all ids as they are. bubblewrap keeps the host's root and klock's
        # variables, and the command sees it as process 1: in one namespace with it, /proc/1/root would lead out.
        yield from ("--unshare-user", "--uid", str(user.uid), "--gid", str(user.gid))
        if user.uid == 0:
            for capability in _CAPABILITIES:
                yield from ("--cap-add", capability)
        variables = {**self._variables, **command.environment}
        if isinstance(self._network, Uplink):
            # No other authority is of use there, whatever the image says.
            variables |= self._variables
        for name, value in variables.items():
            yield from ("--setenv", name, value)
        yield from ("--chdir", command.working_dir)

    def _device(self, path: str, *, is_folder: bool = False) -> str:
        """Where to mount something of a device's: bubblewrap makes all it needs in the /dev that it makes, the kernel
        has what is in /proc, and elsewhere there must be a file or folder to mount over."""
        return path if path.startswith(("/dev/", "/proc/")) else self._inside(path, is_folder=is_folder)

    def _inside(self, target: str, *, is_folder: bool) -> str:
        return self._mount_point(target, is_folder=is_folder).removeprefix(self._root)

    def _provide_working_dir(self, command: Command) -> None:
        if command.makes_working_dir:
            os.makedirs(resolve(self._root, command.working_dir), mode=0o755, exist_ok=True)
        elif not self._has_folder(command.working_dir, command.mounts):
            raise missing_working_dir(command.working_dir)

    def _has_folder(self, path: str, mounts: Sequence[Mount]) -> bool:
        """Whether a command will see a folder there. bubblewrap mounts when the command starts, /dev and /proc too."""
        inside = resolve(self._root, path)
        places = [(resolve(self._root, mount.target), str(mount.source)) for mount in mounts]
        places += [(f"{self._root}{target}", target) for target in ("/dev", "/proc", "/sys")]
        for target, source in reversed(places):
            if f"{inside}/".startswith(f"{target}/"):
                return os.path.isdir(source + inside.removeprefix(target))
        return os.path.isdir(inside)

    def _problem_with_program(self, command: Command) -> tuple[int, bytes] | None:
        name = command.argv[0]
        if "/" in name:
            candidates = [name if name.startswith("/") else f"{command.working_dir}/{name}"]
        else:
            candidates = [f"{folder}/{name}" for folder in command.environment.get("PATH", "").split(":") if folder]
        mounted, user = tuple(mount.target for mount in command.mounts), self._users[command.user]
        if any(_is_program(resolve(self._root, path), user) or path.startswith(mounted) for path in candidates):
            return None
        if any(os.path.exists(resolve(self._root, path)) for path in candidates):
            return _NOT_EXECUTABLE, b"not an executable file"
        return _NOT_FOUND, b"no such program"


def _memory_file(name: str, content: bytes) -> int:
    """A descriptor to read `content` from."""
    descriptor = os.memfd_create(name)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _is_program(path: str, user: User) -> bool:
    """Whether it is a file that `user` may execute."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    if user.uid == 0:
        bits = 0o111
    elif user.uid == status.st_uid:
        bits = 0o100
    else:
        bits = 0o010 if status.st_gid in (user.gid, *user.groups) else 0o001
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & bits)


def _read_all(descriptor: int) -> bytes:
    content = bytearray()
    while chunk := os.read(descriptor, 4096):
        content += chunk
    return bytes(content)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
