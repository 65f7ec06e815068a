"""The credentials that variables of this process hold, and where in a text their values can be told from chance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from klock.patterns import regex
from klock.secrets.values import SHORTEST_SEARCHED, is_host_name, is_secret, is_user_name, may_be_secret

__all__ = ["NAME", "held_values", "is_told_anywhere", "variable_with"]

NAME: Final = regex(r"[A-Za-z_][A-Za-z0-9_]*")
"""What a variable may be called to stand in `${NAME}`."""

_SHORTEST_HARMLESS: Final = 8
_SHORTEST_UNNAMED: Final = 4
_SHORTEST_LETTERS: Final = 8
_SHORTEST_HARMLESS_PART: Final = 12
_DEFAULTS: Final = frozenset(
    ("password", "passphrase", "postgres", "postgresql", "rabbitmq", "wordpress", "nextcloud", "keycloak", "changeme")
) | {"minioadmin", "localhost", "notebook", "jupyter", "development", "production", "username", "database"}
"""Passwords that images come with, and that are parts of other words."""


def held_values(environ: Mapping[str, str], used: Collection[str]) -> dict[str, str]:
    """The values that are looked for in texts, each with the variable that holds it."""
    held: dict[str, str] = {}
    for name, value in sorted(environ.items()):
        shortest = SHORTEST_SEARCHED if may_be_secret(value) else _SHORTEST_HARMLESS
        if NAME.fullmatch(name) and len(value) >= shortest and (name in used or is_secret(name, value)):
            held[value] = variable_with(value, environ, user=False) or name
    return held


def is_told_anywhere(value: str) -> bool:
    """Whether a value is a credential with letters and digits beside it too: no chance, and no part of another word."""
    if not may_be_secret(value):
        return len(value) >= _SHORTEST_HARMLESS_PART
    return value.lower() not in _DEFAULTS and (not value.isalpha() or len(value) >= _SHORTEST_LETTERS)


def variable_with(value: str, environ: Mapping[str, str], *, user: bool) -> str | None:
    """The variable that holds `value`: one whose name says so before any other, then by name."""

    def says_so(name: str) -> bool:
        return is_user_name(name) if user else is_secret(name, value)

    if not value:
        return None
    candidates = [
        (not says_so(name), name)
        for name, held in environ.items()
        if held == value
        and NAME.fullmatch(name)
        and (says_so(name) or (len(value) >= _SHORTEST_UNNAMED and not is_host_name(name)))
    ]
    return min(candidates)[1] if candidates else None
