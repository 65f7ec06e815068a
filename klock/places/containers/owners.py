"""The owner of a container: the klock process that made it, named so that other processes can tell whether it runs."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["may_be_alive", "this_process"]


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
    return str(Path("/proc/self/ns/pid").readlink())


def _started(process: int) -> str | None:
    try:
        content = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The name in parentheses may hold anything; the start time is field 22.
    return content.rpartition(")")[2].split()[19]
