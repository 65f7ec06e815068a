"""Starts a program that can start no other one: klock's own tools, where they run outside of a sandbox.

The kernel sees to it, with a filter of system calls (seccomp(2)): execve(2) is refused, and execveat(2) too, but for
the descriptor that the program itself was opened at, which is closed when the program runs. Threads are free.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.workshop import linux
from klock.workshop.protocol import Completed
from klock.workshop.seccomp import filter_of_lone_program

__all__ = ["run_alone"]

_AT: Final = 240
"""The descriptor: above those that a program is given, below the least limit of open files."""


def run_alone(
    program: Path,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    reads: Path = Path(os.devnull),
) -> Completed | None:
    """Runs `program` in `folder` to its end, with what it prints; None where this kernel cannot confine it so.

    `reads` is its standard input.

    Only one thread may be alive in this process.
    """
    with tempfile.TemporaryFile() as output:
        hear, tell = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                linux.die_with_parent(parent)
                _become(program, arguments, folder=folder, environment=environment, reads=reads, output=output.fileno())
            except BaseException:
                os.write(tell, b"!")
            finally:
                os._exit(1)
        os.close(tell)
        try:
            has_failed = bool(os.read(hear, 1))
            _, status = os.waitpid(child, 0)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        finally:
            os.close(hear)
        output.seek(0)
        return None if has_failed else Completed(status=os.waitstatus_to_exitcode(status), output=output.read())


def _become(
    program: Path,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    reads: Path,
    output: int,
) -> None:
    """What the child does; returns only by an error."""
    os.dup2(os.open(reads, os.O_RDONLY), 0)
    os.chdir(folder)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(program, os.O_RDONLY | os.O_CLOEXEC), _AT, inheritable=False)
    linux.filter_system_calls(filter_of_lone_program(_AT))
    os.execve(_AT, [os.fspath(program), *arguments], environment)
