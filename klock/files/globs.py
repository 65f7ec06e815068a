"""Shell patterns as rsync, git and docker read them, made into regular expressions.

Those of rsync and git, which descend from wildmatch.c, are over bytes, since both programs compare bytes: `?` is one
byte, and a name that is not UTF-8 can be matched. Docker's are those of Go's filepath.Match, over characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["NEVER", "git_regex", "go_regex", "has_wildcard", "rsync_regex"]

NEVER: Final = b"(?!)"
"""The regular expression that matches nothing: a malformed pattern matches no name, and is not an error either."""

_CLASSES: Final[dict[bytes, Callable[[int], bool]]] = {
    b"alnum": lambda c: chr(c).isalnum(),
    b"alpha": lambda c: chr(c).isalpha(),
    b"blank": lambda c: c in b" \t",
    b"cntrl": lambda c: c < 32 or c == 127,
    b"digit": lambda c: chr(c).isdigit(),
    b"graph": lambda c: 32 < c < 127,
    b"lower": lambda c: chr(c).islower(),
    b"print": lambda c: 32 <= c < 127,
    b"punct": lambda c: 32 < c < 127 and not chr(c).isalnum(),
    b"space": lambda c: c in b" \t\n\r\v\f",
    b"upper": lambda c: chr(c).isupper(),
    b"xdigit": lambda c: c in b"0123456789abcdefABCDEF",
}


def rsync_regex(pattern: bytes) -> bytes:
    """rsync's wildmatch: `*` and `?` stop at a slash, `**` does not."""
    return _translate(pattern, lambda _start, _end: (b".*", None))


def git_regex(pattern: bytes) -> bytes:
    """git's wildmatch with WM_PATHNAME: `**` crosses slashes only as a whole path component (gitignore(5)).

    git compares the part before the first special character literally and starts wildmatch after it, so `**` just
    there counts as a component's beginning too (`foo**/bar`, dir.c, match_pathname).
    """
    special = re.search(rb"[*?[\\]", pattern)
    literal_part = special.start() if special else len(pattern)

    def stars(start: int, end: int) -> tuple[bytes, int | None]:
        begins = start in (0, literal_part) or pattern[start - 1 : start] == b"/"
        if begins and pattern[end : end + 1] == b"/":
            return b"(?:.*/)?", end + 1
        if begins and (end == len(pattern) or pattern[end : end + 2] == b"\\/"):
            return b".*", None
        return b"[^/]*", None

    return _translate(pattern, stars)


def has_wildcard(path: str) -> bool:
    """Whether docker takes it for a pattern: a backslash takes the meaning from the character behind it."""
    return re.search(r"[*?\[]", re.sub(r"\\.", "", path, flags=re.DOTALL)) is not None


def go_regex(pattern: str) -> str:
    """One component of a path as Go's filepath.Match reads it: `^` negates a class, and `!` does not.

    Raises ValueError for a malformed pattern.
    """
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            regex, at = _go_class(pattern, at)
            out.append(regex)
        elif char == "\\":
            if at == len(pattern):
                raise ValueError("it ends in a backslash")
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def _go_class(pattern: str, at: int) -> tuple[str, int]:
    """The class whose first character is at `at`, and where it ends."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern[at : at + 1] == "]"):
        first, at = _go_member(pattern, at)
        last = first
        if pattern[at : at + 1] == "-":
            last, at = _go_member(pattern, at + 1)
        ranges.append((first, last))
    members = "".join(f"{re.escape(first)}-{re.escape(last)}" for first, last in ranges if first <= last)
    if not members:
        return "[^/]" if negated else "(?!)", at + 1
    return f"[{'^' if negated else ''}{members}]", at + 1


def _go_member(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] == "\\":
        at += 1
    elif pattern[at : at + 1] in ("-", "]"):
        raise ValueError("a class is empty or begins with a hyphen")
    if at + 1 >= len(pattern):
        raise ValueError("a class has no end")
    return pattern[at], at + 1


def _translate(pattern: bytes, stars: Callable[[int, int], tuple[bytes, int | None]]) -> bytes:
    """`stars(start, end)` says what two or more stars mean, and where reading goes on if not at `end`."""
    out: list[bytes] = []
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"*":
            end = at
            while pattern[end : end + 1] == b"*":
                end += 1
            regex, resume = (b"[^/]*", None) if end == at + 1 else stars(at, end)
            out.append(regex)
            at = end if resume is None else resume
        elif char == b"?":
            out.append(b"[^/]")
            at += 1
        elif char == b"[":
            members = _bracket(pattern, at)
            if members is None:
                return NEVER
            chars, at = members
            out.append(b"[" + b"".join(b"\\x%02x" % c for c in sorted(chars)) + b"]" if chars else NEVER)
        elif char == b"\\":
            if at + 1 == len(pattern):
                return NEVER
            out.append(re.escape(pattern[at + 1 : at + 2]))
            at += 2
        else:
            out.append(re.escape(char))
            at += 1
    return b"".join(out)


def _bracket(pattern: bytes, at: int) -> tuple[set[int], int] | None:
    """The bytes that the bracket expression at `at` accepts, never a slash, and where it ends; None if it is malformed.

    The order of the cases is wildmatch.c's: `]` first is a member, `-` makes a range only between two members.
    """
    at += 1
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    chars: set[int] = set()
    previous: int | None = None
    first = True
    while first or pattern[at : at + 1] != b"]":
        first = False
        if at >= len(pattern):
            return None
        char: int | None = pattern[at]
        if char == ord("\\"):
            at += 1
            if at >= len(pattern):
                return None
            char = pattern[at]
            chars.add(char)
        elif char == ord("-") and previous is not None and pattern[at + 1 : at + 2] not in (b"", b"]"):
            at += 1
            if pattern[at] == ord("\\"):
                at += 1
                if at >= len(pattern):
                    return None
            chars.update(range(previous, pattern[at] + 1))
            char = None
        elif pattern[at : at + 2] == b"[:":
            end = pattern.find(b"]", at + 2)
            if end < 0:
                return None
            if end > at + 2 and pattern[end - 1] == ord(":"):
                member = _CLASSES.get(pattern[at + 2 : end - 1])
                if member is None:
                    return None
                chars.update(c for c in range(1, 128) if member(c))
                at, char = end, None
            else:
                chars.add(ord("["))
        elif char is not None:
            chars.add(char)
        previous = char
        at += 1
    if negated:
        chars = set(range(1, 256)) - chars
    return chars - {ord("/")}, at + 1
