"""The opposite of a marker: PEP 508 has no `not`. The index of a project counts where none of its sources does."""

from __future__ import annotations

import re
from collections.abc import Callable

from packaging.markers import Marker

from klock.patterns import regex

__all__ = ["negated"]

_TOKEN = regex(
    r"""\s*(?:
    (?P<sign>[()]|\band\b|\bor\b)
    | (?P<left>"[^"]*"|'[^']*'|\w+)\s*(?P<operator>not\s+in|in|[<>=!~]+)\s*(?P<right>"[^"]*"|'[^']*'|\w+)
    )""",
    re.VERBOSE,
)
_OPPOSITES = {"==": "!=", "===": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "not in"}


def negated(marker: Marker) -> Marker:
    """A marker that is true in exactly those environments in which `marker` is false."""
    text = str(marker)
    tokens = list(_TOKEN.finditer(text))
    at = 0

    def joined(sign: str, part: Callable[[], str], *, opposite: str) -> str:
        nonlocal at
        found = [part()]
        while at < len(tokens) and tokens[at]["sign"] == sign:
            at += 1
            found.append(part())
        return f" {opposite} ".join(f"({each})" for each in found)

    def alternatives() -> str:
        return joined("or", conjunction, opposite="and")

    def conjunction() -> str:
        return joined("and", term, opposite="or")

    def term() -> str:
        nonlocal at
        token = tokens[at]
        at += 1
        if token["sign"] == "(":
            inside = alternatives()
            at += 1
            return inside
        return _opposite(token["left"], " ".join(token["operator"].split()), token["right"])

    return Marker(alternatives())


def _opposite(left: str, operator: str, right: str) -> str:
    if operator == "not in":
        return f"{left} in {right}"
    if operator == "~=":
        series = right[:-1].rpartition(".")[0]
        return f"{left} < {right} or {left} != {series}.*{right[-1]}"
    return f"{left} {_OPPOSITES[operator]} {right}"
