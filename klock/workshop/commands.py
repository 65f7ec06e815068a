"""Runs commands in a mounted tree with bubblewrap, inside a namespace process.

bubblewrap (bwrap(1)) changes the root, provides /dev and /proc, takes away rights and starts the command. The other
namespaces are made here, once, so that a command and its services share them. The first bubblewrap is process 1 of
the process namespace. That matters twice: when it ends the kernel ends all others, and a Ctrl-C on the terminal, which
reaches every process of the foreground, cannot kill it, only the command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.workshop import linux, trust
from klock.workshop.bubblewrap import Access, Bind, View
from klock.workshop.bubblewrap_program import find_bubblewrap
from klock.workshop.command import RESOLVER, SCRIPT, Command, Network, Uplink
from klock.workshop.descendants import adopt_descendants, end_descendants
from klock.workshop.handshake import Handshake
from klock.workshop.overlay import Area, WritableLayer, make_mount_point, resolve
from klock.workshop.programs import has_folder, problem_with_program
from klock.workshop.seccomp import system_call_filter
from klock.workshop.started import Launch, Started
from klock.workshop.users import User, find_user
from klock.workshop.working_dir import missing_working_dir

__all__ = ["Sandbox"]

_HOSTNAME: Final = "klock"
_HOST_MEMORY: Final = "/dev/shm"
_LOOPBACK: Final = b"127.0.0.1 localhost%s\n::1 localhost ip6-localhost ip6-loopback\n"


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
        varied: bool = False,
    ) -> None:
        """`commands` are the commands to start. The first of them decides about their network, and what they share with
        the host.

        `is_step`: they make a layer. Such commands have no /sys of the host, which differs by machine, and fewer system
        calls.
        `joined`: another process has prepared the area already, for commands that still run.
        `varied`: see `klock.workshop.protocol.Workshop.open`.
        """
        self._bubblewrap = find_bubblewrap()
        self._root = area.merged
        self._network = commands[0].network
        self._host_pid = commands[0].host_pid
        self._host_ipc = commands[0].host_ipc
        self._is_step = is_step
        self._varied = varied
        self._made: list[str] = []
        self._started = 0
        self._configuration = area.path
        self._shared_memory, self._own_memory = area.shared_memory, False
        if self._host_ipc:
            self._shared_memory = _HOST_MEMORY
        elif (size := commands[0].shm_size) is not None:
            self._shared_memory, self._own_memory = area.add_own_shared_memory(size), True
        if not joined:
            self._mount_temporary(writable, tmp=commands[0].own_tmp)
        self._write_network_files()
        self._variables = self._provide_certificates(commands[0].environment, ca_bundle)
        self._users = {command.user: find_user(self._root, command.user) for command in commands}
        self._enter_namespaces()

    def _mount_temporary(self, writable: WritableLayer, *, tmp: bool) -> None:
        flags = linux.MS_NOSUID | linux.MS_NODEV
        linux.mount("tmpfs", self._mount_point("/run", is_folder=True), "tmpfs", flags=flags, options="mode=0755")
        if not tmp:
            return
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
        hosts, resolver = _LOOPBACK % f" {_HOSTNAME}".encode(), b""
        if self._network is Network.HOST:
            resolver = _content("/etc/resolv.conf")
            hosts = _hosts_of_machine(resolver)
        elif isinstance(self._network, Uplink):
            resolver = f"nameserver {RESOLVER}\n".encode()
        for name, content in (("hosts", hosts), ("resolv.conf", resolver)):
            Path(self._network_file(name)).write_bytes(content)

    def _network_file(self, name: str) -> str:
        """A file of this process's own: commands that share the mounts may have other networks."""
        return f"{self._configuration}/{name}-{os.getpid()}"

    def _enter_namespaces(self) -> None:
        namespaces = linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP
        if self._host_pid:
            adopt_descendants()
        else:
            namespaces |= linux.CLONE_NEWPID
        linux.unshare(namespaces if self._host_ipc else namespaces | linux.CLONE_NEWIPC)
        # With the machine's network goes its name, by which processes on many machines find each other.
        linux.set_host_name(_machine_name() if self._network is Network.HOST else _HOSTNAME)
        if self._network is Network.HOST:
            return
        from klock.workshop.cable import enter_empty_network, enter_recorded_network

        if isinstance(self._network, Uplink):
            enter_recorded_network(self._network)
        else:
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
        """Ends what still runs, and removes the mount points that had to be made in the tree."""
        if self._host_pid:
            end_descendants()
        if self._own_memory:
            linux.unmount(self._shared_memory, flags=linux.MNT_DETACH)
        for path in self._made:
            if os.path.isdir(path):
                import shutil

                shutil.rmtree(path, ignore_errors=True)
            else:
                # It may have gone with a folder above it that was made too.
                Path(path).unlink(missing_ok=True)

    # -- commands

    def start(
        self, command: Command, *, stdio: tuple[int, int, int], own_session: bool, held: bool = False
    ) -> Started | int:
        """Starts a command, or returns the status (and writes a line to its stderr) when the tree has no such program.

        The first command started is process 1's child: when it ends, all others end, unless process ids are the host's;
        then `close` ends them. `held`: it waits for `release`.
        """
        user = self._users[command.user]
        self._provide_working_dir(command)
        if (problem := problem_with_program(self._root, command, user)) is not None:
            status, reason = problem
            os.write(stdio[2], f"klock: {reason}: ".encode() + os.fsencode(command.argv[0]) + b"\n")
            return status
        self._started += 1
        proc = f"{self._configuration}/proc-{os.getpid()}-{self._started}"
        os.mkdir(proc)
        view = self._view(command, user, proc)
        system_calls = _memory_file(
            "filter", system_call_filter(in_step=self._is_step, online=self._network is Network.HOST)
        )
        handshake = Handshake(held=held)
        options = [*view.options(), *handshake.options, "--seccomp", str(system_calls)]
        # Not on the command line: everybody may read that, and variables can be secrets.
        arguments = _memory_file("arguments", b"".join(os.fsencode(option) + b"\0" for option in options))
        launch = Launch(
            argv=(self._bubblewrap, "--args", str(arguments), "--", *command.argv),
            user=user,
            groups=command.devices.additional_gids,
            proc=proc,
            stdio=stdio,
            files=(system_calls, arguments),
            own_session=own_session,
            opens_any_port=self._network is not Network.HOST,
            host_pid=self._host_pid,
            varied=self._varied,
        )
        return launch.start(handshake)

    def _view(self, command: Command, user: User, proc: str) -> View:
        variables = {**self._variables, **command.environment}
        if isinstance(self._network, Uplink):
            # No other authority is of use there, whatever the image says.
            variables |= self._variables
        return View(
            root=self._root,
            shared_memory=self._shared_memory,
            proc=proc,
            shows_machine=not self._is_step,
            binds=tuple(self._binds(command, proc)),
            user=user,
            variables=variables,
            working_dir=command.working_dir,
        )

    def _binds(self, command: Command, proc: str) -> Iterator[Bind]:
        """What the command sees besides the tree. The mount points are made."""
        for name in ("hosts", "resolv.conf"):
            target = self._inside(f"/etc/{name}", is_folder=False)
            yield Bind(access=Access.READ_ONLY, source=self._network_file(name), target=target)
        for mount in command.mounts:
            access = Access.READ_ONLY if mount.read_only else Access.READ_WRITE
            target = self._inside(mount.target, is_folder=mount.source.is_dir())
            yield Bind(access=access, source=str(mount.source), target=target)
        for node in command.devices.device_nodes:
            yield Bind(access=Access.DEVICE, source=node.host_path or node.path, target=self._device(node.path))
        for edit in command.devices.mounts:
            access = Access.READ_ONLY if "ro" in edit.options else Access.READ_WRITE
            target = self._device(edit.container_path, is_folder=Path(edit.host_path).is_dir())
            yield Bind(access=access, source=edit.host_path, target=target)
        if command.script is not None:
            # On the namespace's own tmpfs, which goes with it.
            script = Path(f"{proc}.script")
            script.write_text(command.script, "utf-8", "surrogateescape")
            target = self._inside(SCRIPT, is_folder=False)
            yield Bind(access=Access.READ_ONLY, source=str(script), target=target)

    def _device(self, path: str, *, is_folder: bool = False) -> str:
        """Where to mount something of a device's: bubblewrap makes all it needs in the /dev that it makes, the kernel
        has what is in /proc, and elsewhere there must be a file or folder to mount over."""
        return path if path.startswith(("/dev/", "/proc/")) else self._inside(path, is_folder=is_folder)

    def _inside(self, target: str, *, is_folder: bool) -> str:
        return self._mount_point(target, is_folder=is_folder).removeprefix(self._root)

    def _provide_working_dir(self, command: Command) -> None:
        if command.makes_working_dir:
            os.makedirs(resolve(self._root, command.working_dir), mode=0o755, exist_ok=True)
        elif not has_folder(self._root, command.working_dir, command.mounts):
            raise missing_working_dir(command.working_dir)


def _memory_file(name: str, content: bytes) -> int:
    """A descriptor to read `content` from."""
    descriptor = os.memfd_create(name)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _machine_name() -> str:
    return os.uname().nodename or _HOSTNAME


def _hosts_of_machine(resolver: bytes) -> bytes:
    """The machine's own hosts(5), in which its name leads where it leads on the machine. Where neither that nor a name
    server can know the name, it is the loopback's."""
    known, name = _content("/etc/hosts"), os.fsencode(_machine_name())
    words = {word for line in known.splitlines() for word in line.partition(b"#")[0].split()[1:]}
    if name in words or b"nameserver" in resolver:
        return _LOOPBACK % b"" + known
    return _LOOPBACK % (b" " + name) + known


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
