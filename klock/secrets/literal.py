"""A credential that is written out in a text, as a value; and what the finders of such share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from klock.secrets.values import is_secret
from klock.secrets.vocabulary import variable_name, words_of
from klock.values import dataclass

__all__ = ["KINDS", "Literal", "compiled", "is_named", "literal", "matches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A credential at `start` to `end` of a text. `where` says in words what it is, without its value; `variable` is a
    fitting name for the variable that it should be taken from."""

    start: int
    end: int
    where: str
    variable: str


KINDS: Final = frozenset(
    ["string", "str", "text", "bytes", "int", "number", "required", "optional", "password", "passwd", "token", "secret"]
)
"""Words that say what a value is, and are none."""


def is_named(name: str, value: str) -> bool:
    """Whether the value of what is called so, in a variable's way, is a credential."""
    entry = variable_name(name)
    return entry is not None and is_secret(name, value)


def matches(pattern: str, text: str, sign: str, seen: str | None = None) -> Iterator[re.Match[str]]:
    """Many texts lack the sign without which there is no match; then the pattern need not even be compiled.

    `seen` is the text in which to look for the sign, where that is another one: the same in lower case.
    """
    return compiled(pattern).finditer(text) if sign in (text if seen is None else seen) else iter(())


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def literal(match: re.Match[str], where: str, name: str, group: str = "value") -> Literal:
    variable = "_".join(words_of(name)).upper().removeprefix("X_")
    return Literal(start=match.start(group), end=match.end(group), where=where, variable=variable or "SECRET")
