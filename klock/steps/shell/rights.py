"""What a step cannot do, whatever its base allows: become root. It is said before anything is fetched."""

from __future__ import annotations

import re
from typing import Final

from klock.errors import ImageError
from klock.steps.shell_text import text_that_runs

__all__ = ["refuse_sudo"]

_ROOT: Final = ("", "root", "0")
_SUDO: Final = re.compile(
    # Where a command begins, perhaps with variables before it.
    r"(?:^|[;&|({!]|\b(?:then|do|else|if|while|until|exec|env|time|nohup|xargs)\b)[ \t]*(?:[A-Za-z_]\w*=\S*[ \t]+)*"
    r"(?P<program>(?:/usr/bin/)?(?:sudo|doas))[ \t]",
    re.MULTILINE,
)


def refuse_sudo(command: str, *, user: str, in_dockerfile: bool = False) -> None:
    """Raises ImageError when a step whose user is not root calls sudo: no program gets more rights."""
    if user.partition(":")[0] in _ROOT:
        return
    if (match := _SUDO.search(text_that_runs(command))) is not None:
        raise ImageError(
            f"{match['program']} cannot make the step root: it runs as {user}, and no program in the sandbox gets "
            "more rights than its user has",
            hint=f"write USER root above it, and USER {user} below it"
            if in_dockerfile
            else 'call .user("root") before it, and .user(...) after it',
        )
