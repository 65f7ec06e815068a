"""Writes TOML (toml.io, 1.0) as klock's own files have it: one entry a line, so that a changed entry is a changed line.

By hand, as what can be written is little, and the bytes are promised. A library that keeps what a person wrote takes a
millisecond for each package of a lockfile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from klock.patterns import regex

__all__ = ["entries", "tables"]

_BARE: Final = regex(r"[A-Za-z0-9_-]+")
_SPECIAL: Final = regex(r'[\x00-\x1f"\\\x7f]')
_NOT_IN_LITERALS: Final = regex(r"[\x00-\x08\x0b-\x1f\x7f]|'''")
_SHORT: Final = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", '"': r"\"", "\\": r"\\"}


def entries(values: Mapping[str, Any]) -> str:
    """A line for each value, and for each item of an array that has several; tables are inline. Texts, whole numbers,
    truth values, arrays and tables are known."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in values.items())


def tables(name: str, rows: Iterable[Mapping[str, Any]], *, apart: str = "") -> str:
    """An array of tables. What a row has under the key `apart`, a table of tables, comes as tables of their own."""
    return "".join(
        f"\n[[{name}]]\n"
        + entries({key: value for key, value in row.items() if key != apart})
        + "".join(f"\n[{name}.{apart}.{key}]\n{entries(table)}" for key, table in row.get(apart, {}).items())
        for row in rows
    )


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _text(text)


def _value(value: Any) -> str:
    if isinstance(value, str) and "\n" in value and value[0] != "\n" and not _NOT_IN_LITERALS.search(value):
        return f"'''{value}'''"
    if isinstance(value, list | tuple):
        return _array(value)
    return _in_line(value)


def _array(values: Sequence[Any]) -> str:
    if len(values) > 1 or any(isinstance(value, dict) for value in values):
        return "[\n" + "".join(f"    {_in_line(value)},\n" for value in values) + "]"
    return _in_line(values)


def _in_line(value: Any) -> str:
    match value:
        case str():
            return _text(value)
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case list() | tuple():
            return f"[{', '.join(map(_in_line, value))}]"
        case dict():
            return "{" + ", ".join(f"{_key(key)} = {_in_line(each)}" for key, each in value.items()) + "}"
    raise TypeError(f"TOML has no {type(value).__name__} here")


def _text(text: str) -> str:
    return f'"{_SPECIAL.sub(_escaped, text)}"'


def _escaped(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"
