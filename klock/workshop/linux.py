"""The few Linux system calls that Python 3.11 does not offer, each raising OSError as `os` functions do."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ctypes

__all__ = [
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MNT_DETACH",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_RDONLY",
    "MS_REC",
    "MS_SLAVE",
    "adopt_orphans",
    "die_with_parent",
    "filter_system_calls",
    "hear_of_parents_end",
    "load",
    "mount",
    "set_host_name",
    "setns",
    "sync_file_system",
    "unmount",
    "unshare",
    "written_meanwhile",
]

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 0x2

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_FILTER_SIZE: Final = 8
_SIGKILL: Final = 9


def load() -> None:
    """Loads what these calls need, also for children. A process without such calls saves a millisecond."""
    _libc()


@functools.cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, path: str | None = None) -> None:
    if result < 0:
        from ctypes import get_errno

        number = get_errno()
        raise OSError(number, os.strerror(number), path)


def unshare(flags: int) -> None:
    _checked(_libc().unshare(flags))


def setns(descriptor: int, kind: int) -> None:
    _checked(_libc().setns(descriptor, kind))


def set_host_name(name: str) -> None:
    """sethostname(2). Python's own is in `socket`, whose import takes longer than to start a command."""
    given = os.fsencode(name)
    _checked(_libc().sethostname(given, len(given)))


def mount(source: str, target: str, kind: str | None, *, flags: int = 0, options: str = "") -> None:
    """mount(2). `options` must stay below a page (4096 bytes)."""
    from ctypes import c_ulong

    if len(options) >= 4096:
        raise OSError(36, "too many layers for one mount", target)
    arguments = (os.fsencode(source), os.fsencode(target), kind and kind.encode(), c_ulong(flags))
    _checked(_libc().mount(*arguments, options.encode()), target)


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent, process `parent`, is gone. Lost when credentials change."""
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)


def unmount(target: str, *, flags: int = 0) -> None:
    _checked(_libc().umount2(os.fsencode(target), flags), target)


def hear_of_parents_end(number: int) -> None:
    """Has the kernel send this process the signal `number` when its parent is gone, in place of what it sends now."""
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0))


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave behind, however they detached themselves."""
    _checked(_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def filter_system_calls(program: bytes) -> None:
    """Has this process, and what it becomes, obey a filter for good: an array of `struct sock_filter` (seccomp(2))."""
    import ctypes

    class FilterProgram(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filters", ctypes.c_void_p))  # struct sock_fprog

    array = ctypes.create_string_buffer(program, len(program))
    filter_program = FilterProgram(len(program) // _FILTER_SIZE, ctypes.cast(array, ctypes.c_void_p))
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(_libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_program), 0, 0))


def sync_file_system(path: str) -> None:
    """Brings all that was written to the file system of `path` to the disk: one call for a tree of many files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc().syncfs(descriptor))
    finally:
        os.close(descriptor)


@contextmanager
def written_meanwhile(path: str) -> Iterator[None]:
    """Has the disk take what is new in the file system of `path` while the block goes on. Whoever calls
    `sync_file_system` afterwards waits for the rest alone."""
    load()
    child = os.fork()
    if child == 0:
        try:
            sync_file_system(path)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.waitpid(child, 0)
