"""Why a container did not start, read from what the runtime (runc, crun) said: the engines' API has only that text."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["cause_of", "problem_with_program"]

_PROBLEMS: Final = (
    # What shells exit with, and the words that the sandbox has.
    (
        re.compile(
            r'exec: ".*": (executable file not found|stat .*: (no such file|not a directory))'
            r"|executable file `.*` not found"
        ),
        (127, "no such program"),
    ),
    (
        re.compile(
            r'exec: ".*": (stat .*: )?(permission denied|is a directory)|exec /.*: permission denied'
            r"|open executable: Permission denied"
        ),
        (126, "not an executable file"),
    ),
)
_PREPARING: Final = re.compile(r"^preparing container [0-9a-f]+ for attach: ")


def problem_with_program(explanation: str) -> tuple[int, str] | None:
    """The exit status and the words for a command that is not a program of the environment; None for another cause."""
    return next((problem for pattern, problem in _PROBLEMS if pattern.search(explanation)), None)


def cause_of(explanation: str) -> str:
    """The explanation without the container's id, which is gone when somebody reads it."""
    return _PREPARING.sub("", explanation)
