"""A program on a terminal of its own (pty(7)): typing into it, and what it shows."""

from __future__ import annotations

import os
import pty
import select
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["typed"]

_SECONDS = 30


def typed(
    argv: Sequence[str], lines: Sequence[str], *, prompt: str, cwd: Path, env: Mapping[str, str]
) -> tuple[str, int]:
    """Types each of `lines` when `prompt` is shown again; all that the terminal got, and the exit status."""
    pid, terminal = pty.fork()
    if pid == 0:
        # A line that is longer is not shown whole.
        termios.tcsetwinsize(0, (50, 1000))
        os.chdir(cwd)
        os.execvpe(argv[0], list(argv), {"TERM": "dumb", **env})
    shown, seen, waiting = b"", 0, list(lines)
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # nobody has the other end any more
            break
        if not piece:
            break
        shown += piece
        if waiting and prompt.encode() in shown[seen:]:
            seen = len(shown)
            os.write(terminal, waiting.pop(0).encode() + b"\n")
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return shown.decode("utf-8", "replace").replace("\r\n", "\n"), status
