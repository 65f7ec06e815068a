"""The owner of a container: the klock process that made it, named so that other processes can tell whether it runs."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Final

__all__ = ["may_be_alive", "this_process"]


_PROC: Final = Path("/proc")
_UNKNOWN: Final = "?"
"""When a process started, where no /proc says it: then an id that was given anew is taken for the same process."""


def this_process() -> str:
    """This process, in a label's text: its process namespace, its id, and when it started (proc_pid_stat(5))."""
    return f"{_namespace()} {os.getpid()} {_started(os.getpid())}"


def may_be_alive(owner: str, *, container_runs: bool) -> bool:
    """Whether the process that `this_process` described may still run. One of another process namespace cannot be seen
    from here; then its container is asked."""
    namespace, _, rest = owner.partition(" ")
    process, _, started = rest.partition(" ")
    if namespace != _namespace() or not process.isdigit():
        return container_runs
    return _started(int(process)) == started


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return f"machine:{platform.node().replace(' ', '-')}"


def _started(process: int) -> str | None:
    try:
        content = (_PROC / f"{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return None if (_PROC / "self").exists() else _UNKNOWN if _runs(process) else None
    # The name in parentheses may hold anything; the start time is field 22.
    return content.rpartition(")")[2].split()[19]


def _runs(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(process, 0)
        except PermissionError:
            return True
        return True
    return False
