"""The filters of system calls (seccomp(2)) that commands run under. Which calls and why: `system_calls.py`.

Besides what is refused whatever its arguments:

- the ioctls TIOCSTI and TIOCLINUX: a command of `klock run` shares klock's terminal and could put text there as if the
  user had typed it, for the user's own shell to run;
- without the host's network, sockets other than UNIX, INET, INET6 and NETLINK: a network namespace does not hold back
  AF_VSOCK, which reaches the machine's host, nor what later kernels add;
- in steps, new user namespaces. There a command would have all capabilities, and with them most of the kernel's code to
  attack; and machines differ in whether they allow them at all.

A program of an architecture that is not listed may do nothing, as nothing is known of its calls; klock has no targets
of other architectures. The same holds for x32, whose calls have numbers of their own under x86_64's name.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final

from klock.workshop.bpf import Program, assembled, give, load, when, when_any, when_set
from klock.workshop.linux import CLONE_NEWUSER
from klock.workshop.system_calls import ARCHITECTURES, NETLINK_PROTOCOLS, NUMBERS, REFUSED, SOCKET_PROTOCOLS

__all__ = ["filter_of_lone_program", "system_call_filter"]

_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000  # SECCOMP_RET_ERRNO
_X86_64: Final = 0xC000003E
_X32: Final = 0x40000000
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16  # families of addresses, as `socket` has them
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_FIRST, _SECOND, _THIRD = 16, 24, 32  # the low halves of the arguments, all that is looked at of an int


def system_call_filter(*, in_step: bool, online: bool) -> bytes:
    """The filter as an array of `struct sock_filter`, as bubblewrap's `--seccomp` reads it.

    `in_step`: the command makes a layer. `online`: it has the host's network.
    """
    program = load(_ARCHITECTURE)
    for column, architecture in enumerate(ARCHITECTURES):
        program += when(architecture, _of_architecture(column, in_step=in_step, online=online))
    return assembled(program + _refuse(errno.ENOSYS))


def filter_of_lone_program(descriptor: int) -> bytes:
    """The filter for a process that may become the program at `descriptor`, and after that no other one."""
    program = load(_ARCHITECTURE)
    bodies = {
        "execve": _refuse(errno.EPERM),
        "execveat": load(_FIRST) + when(descriptor, _allow()) + _refuse(errno.EPERM),
    }
    for column, architecture in enumerate(ARCHITECTURES):
        program += when(architecture, _of_calls(column, bodies))
    return assembled(program + _refuse(errno.ENOSYS))


def _of_architecture(column: int, *, in_step: bool, online: bool) -> Program:
    bodies = {"ioctl": load(_SECOND) + when_any((_TIOCSTI, _TIOCLINUX), _refuse(errno.EPERM))}
    for refused in REFUSED:
        if (in_step or not refused.in_steps) and not (online and refused.offline):
            bodies[refused.call] = _refuse(refused.error)
    if not online:
        bodies |= {"socket": _of_socket(), "socketpair": _of_socket()}
    if in_step:
        bodies |= dict.fromkeys(("clone", "unshare"), load(_FIRST) + when_set(CLONE_NEWUSER, _refuse(errno.EPERM)))
    return _of_calls(column, bodies)


def _of_calls(column: int, bodies: Mapping[str, Program]) -> Program:
    """Runs the body of the call that is made, or else allows it."""
    program = load(_NUMBER)
    if ARCHITECTURES[column] == _X86_64:
        program += when_set(_X32, _refuse(errno.ENOSYS))
    for call, body in bodies.items():
        number = NUMBERS[call][column]
        if number is not None:
            program += when(number, body + _allow())
    return program + _allow()


def _of_socket() -> Program:
    return [
        *load(_FIRST),
        *when(_UNIX, _allow()),
        *when(_NETLINK, _of_protocol(NETLINK_PROTOCOLS)),
        *when_any((_INET, _INET6), _of_protocol(SOCKET_PROTOCOLS)),
        *_refuse(errno.EAFNOSUPPORT),
    ]


def _of_protocol(allowed: tuple[int, ...]) -> Program:
    return load(_THIRD) + when_any(allowed, _allow()) + _refuse(errno.EPROTONOSUPPORT)


def _allow() -> Program:
    return give(_ALLOW)


def _refuse(error: int) -> Program:
    return give(_REFUSE | error)
