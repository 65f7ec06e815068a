"""Markers (PEP 508) made of others, always with the same text: it is locked, and releases of `packaging` differ in how
they write what its own `&` makes."""

from __future__ import annotations

import re
from collections.abc import Callable

from packaging.markers import Marker
from packaging.requirements import Requirement

from klock.patterns import regex

__all__ = ["both", "negated", "only_where"]

_TOKEN = regex(
    r"""\s*(?:
    (?P<sign>[()]|\band\b|\bor\b)
    | (?P<left>"[^"]*"|'[^']*'|\w+)\s*(?P<operator>not\s+in|in|[<>=!~]+)\s*(?P<right>"[^"]*"|'[^']*'|\w+)
    )""",
    re.VERBOSE,
)
_OPPOSITES = {"==": "!=", "===": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "not in"}


def both(first: Marker | None, second: Marker) -> Marker:
    """A marker that is true where both are. None is true everywhere."""
    return second if first is None else Marker(f"({first}) and ({second})")


def only_where(requirement: Requirement, marker: Marker | None) -> Requirement:
    """The requirement, where `marker` is true besides its own."""
    narrowed = Requirement(str(requirement))
    if marker is not None:
        narrowed.marker = both(narrowed.marker, marker)
    return narrowed


def negated(marker: Marker) -> Marker:
    """A marker that is true in exactly those environments in which `marker` is false. The format has no `not`."""
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
