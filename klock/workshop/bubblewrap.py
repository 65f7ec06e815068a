"""What bubblewrap is told of a command: the tree it sees, its user, its rights, its variables (bwrap(1))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePosixPath
from typing import Final

from klock.values import dataclass
from klock.workshop.users import User

__all__ = ["Access", "Bind", "View"]

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
"""The capabilities that package managers and daemons need. Those that could harm the host are not among them."""

_READ_ONLY_PROC: Final = ("acpi", "asound", "bus", "driver", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger")
"""Settings of the whole machine. As root klock maps ids unchanged, so the sandbox's root owns these files too: the
kernel would let it write them without any capability."""


class Access(Enum):
    """How something is shown; the value is bubblewrap's option."""

    READ_ONLY = "--ro-bind"
    READ_WRITE = "--bind"
    DEVICE = "--dev-bind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or folder of the host, shown at the path `target` of the command's tree, where there is one to cover."""

    access: Access
    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a command sees, and as whom.

    `root`, `shared_memory` and `proc` are folders that it sees as /, /dev/shm and /proc; `binds` are laid over them, in
    order. `shows_machine`: it sees the host's /sys too. `working_dir` exists.
    """

    root: str
    shared_memory: str
    proc: str
    shows_machine: bool
    binds: tuple[Bind, ...]
    user: User
    variables: Mapping[str, str]
    working_dir: str

    def options(self) -> Iterator[str]:
        """bubblewrap's options. They may hold secrets, as variables do: not for a command line."""
        yield from ("--bind", self.root, "/")
        yield from ("--dev", "/dev", "--bind", self.shared_memory, "/dev/shm")
        yield from ("--bind", self.proc, "/proc")
        for name in _READ_ONLY_PROC:
            yield from ("--ro-bind-try", f"{self.proc}/{name}", f"/proc/{name}")
        if self.shows_machine:
            yield from ("--ro-bind-try", "/sys", "/sys")
        for folder in self._device_folders():
            # bubblewrap would make it for root alone.
            yield from ("--perms", "0755", "--dir", folder)
        for bind in self.binds:
            yield from (bind.access.value, bind.source, bind.target)
        yield from ("--die-with-parent", "--cap-drop", "ALL", "--clearenv")
        # A namespace below bubblewrap's own, with all ids as they are. bubblewrap keeps the host's root and klock's
        # variables, and the command sees it as process 1: in one namespace with it, /proc/1/root would lead out.
        yield from ("--unshare-user", "--uid", str(self.user.uid), "--gid", str(self.user.gid))
        if self.user.uid == 0:
            for capability in _CAPABILITIES:
                yield from ("--cap-add", capability)
        for name, value in self.variables.items():
            yield from ("--setenv", name, value)
        yield from ("--chdir", self.working_dir)

    def _device_folders(self) -> list[str]:
        """The folders of devices below /dev, such as /dev/infiniband, each after what is above it."""
        devices = [bind.target for bind in self.binds if bind.access is Access.DEVICE]
        folders = {str(folder) for target in devices for folder in PurePosixPath(target).parents}
        return sorted(folder for folder in folders if folder.startswith("/dev/"))
