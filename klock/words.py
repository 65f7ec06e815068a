"""Numbers and lists in sentences, written one way everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from klock.escaping import on_one_line

__all__ = ["ago", "counted", "did_you_mean", "first_of", "in_bytes", "listed", "some"]


def counted(number: int, noun: str) -> str:
    """`1 entry`, `2 entries`, `1 step`, `0 steps`. `noun` is the singular."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def in_bytes(size: int) -> str:
    """`0 B`, `12.3 MB`: decimal units, as registries and uv show them. `size` is in bytes."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def ago(seconds: float) -> str:
    """`just now`, `5 minutes ago`, `3 days ago`: how long it is, in the largest unit that is whole."""
    if seconds < 60:
        return "just now"
    units = (("day", 86400), ("hour", 3600), ("minute", 60))
    unit, length = next(each for each in units if seconds >= each[1])
    return f"{counted(int(seconds // length), unit)} ago"


def first_of(names: Iterable[str], *, most: int = 5) -> str:
    """`a, b, c`, or `a, b and 7 more`: the first `most` of them, within a sentence."""
    all_names = list(map(on_one_line, names))
    return ", ".join(all_names[:most]) + _and_more(len(all_names) - most, " ")


def some(names: Sequence[str]) -> str:
    """`a, b, c`, or `a, b (and 7 more)`: enough of them to know which list it is."""
    names = list(map(on_one_line, names))
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} (and {len(names) - 2} more)"


def listed(lines: Iterable[str], *, most: int = 20) -> str:
    """The first `most` of them, each on a line of its own below a sentence; then `and 7 more`.

    Each line begins with the line break, so that the list of nothing is the empty string.
    """
    all_lines = list(lines)
    return "".join(f"\n  {line}" for line in all_lines[:most]) + _and_more(len(all_lines) - most, "\n  ")


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """`did you mean lock or sync?`, of `names` those that are close to `name`; None when none is."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(map(on_one_line, close))}?" if close else None


def _and_more(number: int, separator: str) -> str:
    return f"{separator}and {number} more" if number > 0 else ""
