"""A seccomp filter (seccomp(2), classic BPF) against writing into the terminal that klock itself runs in.

A command of `klock run` shares klock's terminal. With the ioctls TIOCSTI and TIOCLINUX it could put text there as if
the user had typed it, for the user's own shell to run. They are refused; everything else is allowed.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["terminal_filter"]

# linux/audit.h and the ioctl number of each architecture's system call table.
_IOCTLS: Final = {0xC000003E: 16, 0x40000003: 54, 0xC00000B7: 29, 0x40000028: 54}  # x86_64, i386, aarch64, arm
_X32: Final = 0x40000000 | 514
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUALS: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
_NUMBER, _ARCHITECTURE, _REQUEST = 0, 4, 24  # offsets in struct seccomp_data, the request's low half


def terminal_filter() -> bytes:
    """The filter as an array of `struct sock_filter`, as bubblewrap's `--seccomp` reads it."""
    calls = [*_IOCTLS.items(), (0xC000003E, _X32)]
    program: list[tuple[int, int, int, int]] = []
    for architecture, number in calls:
        program += [
            (_LOAD, 0, 0, _ARCHITECTURE),
            (_EQUALS, 0, 6, architecture),
            (_LOAD, 0, 0, _NUMBER),
            (_EQUALS, 0, 4, number),
            (_LOAD, 0, 0, _REQUEST),
            (_EQUALS, 1, 0, _TIOCSTI),
            (_EQUALS, 0, 1, _TIOCLINUX),
            (_RETURN, 0, 0, _REFUSE),
        ]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
