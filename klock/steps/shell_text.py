"""What of a shell command's text a shell runs, as far as that can be said without running it."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["SEPARATORS", "text_that_runs"]

SEPARATORS: Final = re.compile(r"[;&|\n()]+")
"""What stands between simple commands."""

_HEREDOC: Final = re.compile(
    r"^(?P<line>[^\n]*<<-?[ \t]*(?:(?P<quote>['\"])(?P<quoted>[^'\"\n]+)(?P=quote)|\\?(?P<plain>\w+))[^\n]*)\n"
    r".*?^\t*(?:(?P=quoted)|(?P=plain))$",
    re.MULTILINE | re.DOTALL,
)
_FOR_A_SHELL: Final = re.compile(r"(?:^|[\s/;&|(])(?:ba|da|k|z)?sh\b[^;&|>]*<<")
_QUOTED: Final = re.compile(r"""(?P<script>-\w*c\s+)?(?:'[^']*'|"(?:\\.|[^"\\])*")|\\.""", re.DOTALL)


def text_that_runs(command: str) -> str:
    """The command without here-documents, and quoted text without separators of commands: both are written somewhere,
    unless a shell is given them to run."""
    text = command.replace("\\\n", " ")
    text = _HEREDOC.sub(lambda match: match[0] if _FOR_A_SHELL.search(match["line"]) else match["line"], text)
    return _QUOTED.sub(lambda match: match[0] if match["script"] else SEPARATORS.sub(" ", match[0]), text)
