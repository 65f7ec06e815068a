r"""Expansion of variables, by the rules of `os.path.expandvars` with one addition: `\$` is a plain `$`.

`$NAME` and `${NAME}` take the value the variable has in the container at that step; what is not defined there stays as
written. An expanded value is not expanded again. Any other backslash, and every quote, is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

__all__ = ["ExpandedVariable", "expand", "expand_value"]

_REFERENCE: Final = re.compile(r"\\\$|\$(?:(?P<plain>\w+)|\{(?P<braced>[^}]*)\})", re.ASCII)


class ExpandedVariable(NamedTuple):
    """One variable of a step: its `value` is `written` with all references resolved."""

    name: str
    written: str
    value: str


def expand_value(written: str, environment: Mapping[str, str]) -> str:
    """`written` with the variables of `environment` put in."""

    def replace(match: re.Match[str]) -> str:
        name = match["plain"] or match["braced"]
        if name is None:
            return "$" if match[0] == r"\$" else match[0]
        return environment.get(name, match[0])

    return _REFERENCE.sub(replace, written)


def expand(variables: Iterable[tuple[str, str]], environment: Mapping[str, str]) -> list[ExpandedVariable]:
    """Expands `(name, written)` pairs in order: each one sees `environment` and those before it, never those after."""
    seen = dict(environment)
    expanded = []
    for name, written in variables:
        seen[name] = expand_value(written, seen)
        expanded.append(ExpandedVariable(name, written, seen[name]))
    return expanded
