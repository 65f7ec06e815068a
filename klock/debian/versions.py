"""The order of Debian's versions (deb-version(7)), as dpkg has it."""

from __future__ import annotations

import functools
import re
from itertools import zip_longest
from typing import Final

__all__ = ["DebVersion"]

_PARTS: Final = re.compile(r"([^0-9]*)([0-9]*)")


@functools.total_ordering
class DebVersion:
    """`[epoch:]upstream[-revision]`. Any text has a place in the order; equal ones need not be written alike."""

    def __init__(self, text: str) -> None:
        self.text = text
        epoch, colon, rest = text.partition(":")
        if not colon or not epoch.isdecimal():
            epoch, rest = "0", text
        upstream, dash, revision = rest.rpartition("-")
        if not dash:
            upstream, revision = rest, ""
        self._key = (int(epoch), upstream, revision)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DebVersion) and self._compare(other) == 0

    def __lt__(self, other: DebVersion) -> bool:
        return self._compare(other) < 0

    def __hash__(self) -> int:
        return hash(tuple(tuple(_pieces(part)) for part in (str(self._key[0]), *self._key[1:])))

    def __str__(self) -> str:
        return self.text

    def _compare(self, other: DebVersion) -> int:
        if self._key[0] != other._key[0]:
            return -1 if self._key[0] < other._key[0] else 1
        return _compare(self._key[1], other._key[1]) or _compare(self._key[2], other._key[2])


def _pieces(text: str) -> list[tuple[str, int]]:
    """Text and number in turn, without what is empty at the end."""
    found = [(words, int(digits or 0)) for words, digits in _PARTS.findall(text)]
    while found and found[-1] == ("", 0):
        found.pop()
    return found


def _compare(one: str, other: str) -> int:
    for (words, number), (others, other_number) in zip_longest(_pieces(one), _pieces(other), fillvalue=("", 0)):
        for left, right in zip_longest(words, others, fillvalue=""):
            if (order := _order(left) - _order(right)) != 0:
                return order
        if number != other_number:
            return number - other_number
    return 0


def _order(character: str) -> int:
    """`~` is before the end, letters are after it and before all other characters."""
    if character == "~":
        return -1
    if not character:
        return 0
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256
