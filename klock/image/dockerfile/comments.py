"""`# klock: ...`: comments that say of the RUN below what no instruction can say, read and written.

Several options are divided by commas or stand in comments of their own. Values are words as a shell divides them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

__all__ = ["KNOWN", "options_in", "options_text", "words_of"]

_WITH_VALUE: Final = ("leave-out", "private-urls")
_ALONE: Final = ("keep-layer", "force")
_COMMENT: Final = re.compile(r"\s*#\s*klock:\s*(?P<text>.*?)\s*")
_QUOTED: Final = r"""'[^']*'|"(?:\\.|[^"\\])*"|\\."""
_DIVIDER: Final = rf",\s*(?=(?:{'|'.join(_WITH_VALUE)})=|[a-z-]+\s*(?:,|$))"
_OPTION: Final = re.compile(rf"(?:{_QUOTED}|(?!{_DIVIDER}).)+", re.DOTALL)
_PLAIN: Final = re.compile(r"[^\s,'\"\\]+")

KNOWN: Final = "leave-out=/path /other/*, private-urls=https://host/*, keep-layer and force"
"""What klock knows, for messages."""


def options_in(line: str) -> Iterator[tuple[str, str]]:
    """The options in a line of a Dockerfile, each with its value. Raises ValueError for what klock does not know."""
    match = _COMMENT.fullmatch(line)
    for part in (_OPTION.findall(match["text"]) or [""]) if match else ():
        name, equals, value = (text.strip() for text in part.partition("="))
        if (name, bool(value)) not in {*((each, True) for each in _WITH_VALUE), *((each, False) for each in _ALONE)}:
            raise ValueError(f"klock does not know {name}{equals}{value}")
        yield name, value


def words_of(value: str) -> list[str]:
    """The words of an option's value. Raises ValueError for a quote without an end."""
    return shlex.split(value)


def options_text(options: Mapping[str, Sequence[str]]) -> str:
    """What a comment says for these options, none of whose values has a line break; an option without words has no
    value."""
    return ", ".join(f"{name}={' '.join(map(_word, words))}" if words else name for name, words in options.items())


def _word(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    quoted = shlex.quote(text)
    return quoted if quoted != text else f"'{text}'"  # to a shell a comma is nothing special
