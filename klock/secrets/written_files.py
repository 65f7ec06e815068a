"""Credentials in files that a command writes: JSON, TOML, YAML, INI, XML, netrc, pgpass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from klock.secrets.literal import KINDS, Literal, compiled, is_named, literal, matches
from klock.secrets.values import looks_random, may_be_secret

__all__ = ["in_files"]

_JSON: Final = r"\\?[\"'](?P<name>[\w.-]{1,64})\\?[\"'][ \t]{0,4}:[ \t]{0,4}\\?[\"'](?P<value>[^\"'\\\r\n]+)\\?[\"']"
_LINE: Final = (
    r"(?m)^[ \t]{0,32}(?:-[ \t]{1,4})?(?P<name>[\w.-]{1,64})[ \t]{0,8}(?P<sign>=|:)[ \t]{1,8}"
    r"(?:\"(?P<double>[^\"\\\r\n]+)\"|'(?P<single>[^'\\\r\n]+)'|(?P<bare>[^\s'\"#(){}\[\]]+))"
    r"(?:[ \t]*(?:#.*)?$|(?=['\"]))"
)
_SECTION: Final = r"(?m)(?:^|['\"])\[[\w .:/-]{1,64}\][ \t]*$"
"""Of a file whose strings stand without quotes (INI)."""
_XML: Final = r"<(?P<name>[\w.-]{1,64})>(?P<value>[^<>\s]{1,500})</(?P=name)>"
_NETRC: Final = r"\b(?:login|machine)\s+\S+\s+password\s+(?P<value>[^\s'\"\\]+)"
_NETRC_FORMAT: Final = (
    r"printf[ \t]+(?P<quote>['\"])(?P<before>[^'\"]{0,500}?)password[ \t]+%s[^'\"]{0,500}(?P=quote)"
    r"(?P<words>(?:[ \t]+(?!['\"]?\$)[^\s;|&<>]+)+)"
)
_PGPASS: Final = r"(?:[\w.-]+|\*):(?:\d+|\*):[^\s:'\"]+:[^\s:'\"]+:(?P<value>[^\s:'\"\\]+)"


def in_files(text: str) -> Iterator[Literal]:
    """The credentials in what may be a file, or the text of one that a command writes."""
    for match in matches(_JSON, text, ":"):
        name, value = match["name"], match["value"]
        if is_named(name, value) and may_be_secret(value) and value.lower() not in KINDS:
            yield literal(match, f"the value of {name}", name)
    # As `printf` takes them, line breaks are two characters.
    text = text.replace("\\n", " \n")
    yield from _in_lines(text)
    for match in matches(_XML, text, "</"):
        if is_named(match["name"], match["value"]) and may_be_secret(match["value"]):
            yield literal(match, f"the value of {match['name']}", match["name"])
    for match in matches(_NETRC, text, "password"):
        if may_be_secret(match["value"]):
            yield literal(match, "the password of a netrc file", "PASSWORD")
    for match in matches(_NETRC_FORMAT, text, "password"):
        words = list(compiled(r"[^\s'\"]+").finditer(text, *match.span("words")))
        position = match["before"].count("%s")
        if position < len(words) and may_be_secret(words[position][0]):
            start, end = words[position].span()
            yield Literal(start=start, end=end, where="the password of a netrc file", variable="PASSWORD")
    for match in matches(_PGPASS, text, "pgpass") if "pgpass" in text else ():
        if may_be_secret(match["value"]):
            yield literal(match, "the password of a pgpass file", "PGPASSWORD")


def _in_lines(text: str) -> Iterator[Literal]:
    has_sections: bool | None = None
    for match in compiled(_LINE).finditer(text):
        name = match["name"]
        group = next(group for group in ("double", "single", "bare") if match[group] is not None)
        value = match[group]
        if not is_named(name, value) or not may_be_secret(value):
            continue
        is_written = value.lower() not in KINDS
        if group == "bare" and not looks_random(value):
            if has_sections is None:
                has_sections = compiled(_SECTION).search(text) is not None
            is_written = is_written and has_sections and match["sign"] == "="
        if is_written:
            yield literal(match, f"the value of {name}", name, group)
