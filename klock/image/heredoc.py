"""Heredocs (`<<EOF`, `<<-EOF`, `<<"EOF"`) below an instruction of a Dockerfile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from klock.errors import ImageError

__all__ = ["Heredoc", "heredocs_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """`opening` as in the command (`<<-EOF`); `text` are the lines up to the delimiter's, that one included."""

    opening: str
    delimiter: str
    text: str

    @property
    def body(self) -> str:
        """The lines between, without leading tabs for `<<-`."""
        lines = self.text.split("\n")[:-1]
        if self.opening.startswith("<<-"):
            lines = [line.lstrip("\t") for line in lines]
        return "\n".join(lines)


_TOKEN: Final = re.compile(
    r"""\\. | '[^']*' | "(?:\\.|[^"\\])*" | <<<
    | (?P<opening>\d*<<(?P<dash>-?)(?P<quote>['"]?)(?P<name>[A-Za-z_][\w.-]*)(?P=quote))""",
    re.VERBOSE,
)


def heredocs_in(command: str, lines: Iterator[tuple[int, str]], *, where: str) -> tuple[Heredoc, ...]:
    """Takes the heredocs that `command` opens from the lines below it. Raises ImageError for one without an end."""
    found = []
    for match in _TOKEN.finditer(command):
        if match["opening"] is None:
            continue
        text = []
        for _, line in lines:
            text.append(line)
            if (line.lstrip("\t") if match["dash"] else line) == match["name"]:
                break
        else:
            raise ImageError(f"{where}: the heredoc {match['opening']} has no line {match['name']} that ends it")
        found.append(Heredoc(opening=match["opening"], delimiter=match["name"], text="\n".join(text)))
    return tuple(found)
