"""Which system calls commands may not make, and why: as data, for `seccomp.py`.

Numbers are those of the kernel's tables for x86_64, i386, aarch64 and arm (syscalls(2)): a processor of the first and
third kind runs programs of the second and fourth as well.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final

from klock.values import dataclass

__all__ = [
    "ARCHITECTURES",
    "NETLINK_PROTOCOLS",
    "NUMBERS",
    "REFUSED",
    "SOCKET_PROTOCOLS",
    "Refused",
]

ARCHITECTURES: Final = (0xC000003E, 0x40000003, 0xC00000B7, 0x40000028)
"""x86_64, i386, aarch64 and arm as in linux/audit.h."""

NUMBERS: Final[Mapping[str, tuple[int | None, int | None, int | None, int | None]]] = {
    "add_key": (248, 286, 217, 309),
    "bpf": (321, 357, 280, 386),
    "clone": (56, 120, 220, 120),
    "clone3": (435, 435, 435, 435),
    "delete_module": (176, 129, 106, 129),
    "execve": (59, 11, 221, 11),
    "execveat": (322, 358, 281, 387),
    "finit_module": (313, 350, 273, 379),
    "init_module": (175, 128, 105, 128),
    "io_uring_setup": (425, 425, 425, 425),
    "ioctl": (16, 54, 29, 54),
    "kexec_file_load": (320, None, 294, 401),
    "kexec_load": (246, 283, 104, 347),
    "keyctl": (250, 288, 219, 311),
    "open_by_handle_at": (304, 342, 265, 371),
    "perf_event_open": (298, 336, 241, 364),
    "reboot": (169, 88, 142, 88),
    "request_key": (249, 287, 218, 310),
    "socket": (41, 359, 198, 281),
    "socketcall": (None, 102, None, None),
    "socketpair": (53, 360, 199, 288),
    "syslog": (103, 103, 116, 103),
    "unshare": (272, 310, 97, 337),
    "userfaultfd": (323, 374, 282, 388),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A call that fails with `error`, whatever its arguments.

    `in_steps`: only for the steps of an image. `offline`: only for commands without the host's network.
    """

    call: str
    error: int
    reason: str
    in_steps: bool = False
    offline: bool = False


REFUSED: Final = (
    Refused(call="bpf", error=errno.EPERM, reason="programs in the kernel"),
    Refused(call="init_module", error=errno.EPERM, reason="code in the kernel"),
    Refused(call="finit_module", error=errno.EPERM, reason="code in the kernel"),
    Refused(call="delete_module", error=errno.EPERM, reason="code in the kernel"),
    Refused(call="kexec_load", error=errno.EPERM, reason="another kernel"),
    Refused(call="kexec_file_load", error=errno.EPERM, reason="another kernel"),
    Refused(call="reboot", error=errno.EPERM, reason="the whole machine"),
    Refused(call="open_by_handle_at", error=errno.EPERM, reason="opens files past the root folder"),
    Refused(call="add_key", error=errno.ENOSYS, reason="keyrings are shared with the host's processes of the same id"),
    Refused(call="keyctl", error=errno.ENOSYS, reason="as add_key"),
    Refused(call="request_key", error=errno.ENOSYS, reason="as add_key"),
    Refused(call="syslog", error=errno.EPERM, reason="the kernel's log is the host's, and differs by machine"),
    Refused(call="perf_event_open", error=errno.EPERM, reason="watches the host; profilers need it", in_steps=True),
    Refused(call="userfaultfd", error=errno.EPERM, reason="makes races in the kernel easy to win", in_steps=True),
    Refused(call="clone3", error=errno.ENOSYS, reason="a filter cannot read its flags; clone does it", in_steps=True),
    Refused(call="io_uring_setup", error=errno.ENOSYS, reason="opens sockets that no filter sees", offline=True),
    Refused(call="socketcall", error=errno.ENOSYS, reason="a filter cannot read its arguments", offline=True),
)

SOCKET_PROTOCOLS: Final = (0, 1, 6, 17, 58, 262)
"""Of IPv4 and IPv6: the default, ICMP (for ping without rights), TCP, UDP, ICMPv6, MPTCP. A recorder can name these."""

NETLINK_PROTOCOLS: Final = (0,)
"""Routes and addresses, which the C library reads. To others a program hears what a kernel without them answers."""
