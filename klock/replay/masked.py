"""What a step prints, passed on as it comes and without credentials: `klock -v` writes into the logs of CI machines.

Masked are the values that klock knows, and what programs print of others when they are told to be verbose, which a
server may have given away a moment ago: credentials and cookies in headers, passwords, tokens and signatures in URLs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from klock.image.secrets import mask

__all__ = ["masked", "masked_tail"]

_TAIL: Final = 20
"""lines"""
_LONGEST_HELD: Final = 1 << 14

_PLACES: Final = tuple(
    re.compile(rb"(?P<before>" + before + rb")" + value, re.IGNORECASE)
    for before, value in (
        (rb"\bauthorization:[ \t]*(?:[a-z][a-z0-9-]{0,31}[ \t]+)?", rb"[^\s'\"]+"),
        (rb"\bcookie(?::[ \t]*| [\w.-]{1,64}=)", rb"[^\r\n]+"),  # the second as curl tells of its jar
        (rb"//[^\s/?#:@]*:", rb"[^\s/?#]+(?=@)"),
        (
            rb"[?&](?:[\w-]{0,64}(?:token|secret|password|passwd|api[-_]?key|signature|credential)|sig|sas|auth)=",
            rb"[^&\s#'\"]+",
        ),
    )
)
"""Where credentials stand in what programs print, and how long they are there."""
_UNFINISHED: Final = re.compile(
    rb"(?:\b(?:authorization:|cookie[: ])[^\r\n]*|//[^\s/?#]*|[?&][\w-]{0,80}(?:=[^&\s#'\"]*)?)\Z", re.IGNORECASE
)
"""The beginning of such a place, at the end of what was printed so far."""
_BEGINNINGS: Final = frozenset(
    name[:length] for name in (b"authorization:", b"cookie:", b"//") for length in range(1, len(name))
)
_LONGEST_BEGINNING: Final = max(map(len, _BEGINNINGS))


@contextmanager
def masked(on_output: Callable[[bytes], None], secrets: Iterable[str]) -> Iterator[Callable[[bytes], None]]:
    """A function to call with what was printed, in any pieces; `on_output` gets it with `***` for each secret.

    As much as may be the beginning of a secret is held back until more comes or the block ends.
    """
    forms = {form.encode("utf-8", "surrogateescape") for value in secrets for form in (value, _quoted(value)) if value}
    known = re.compile(b"|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)) or rb"(?!)")
    beginnings = {form[:length] for form in forms for length in range(1, len(form))}
    longest = max(map(len, forms), default=1) - 1
    held = b""

    def write(chunk: bytes) -> None:
        nonlocal held
        text = known.sub(b"***", held + chunk)
        length = max(
            _tail(text, beginnings, longest), _tail(text[-_LONGEST_BEGINNING:].lower(), _BEGINNINGS, _LONGEST_BEGINNING)
        )
        if unfinished := _UNFINISHED.search(text, max(0, len(text) - _LONGEST_HELD)):
            length = max(length, len(text) - unfinished.start())
        text, held = text[: len(text) - length], text[len(text) - length :]
        if text:
            on_output(_without_places(text))

    try:
        yield write
    finally:
        if held:
            on_output(_without_places(held))


def masked_tail(output: bytes, secrets: Iterable[str]) -> str:
    """The last lines a command printed, indented, without secrets: for messages."""
    text = mask(output.decode("utf-8", "replace"), secrets)
    lines = _without_places(text.encode("utf-8")).decode("utf-8").rstrip().splitlines()[-_TAIL:]
    return "".join(f"\n  | {line}" for line in lines)


def _tail(text: bytes, beginnings: Set[bytes], longest: int) -> int:
    """How long the longest of `beginnings` is that the text ends with."""
    lengths = range(min(longest, len(text)), 0, -1)
    return next((length for length in lengths if text[-length:] in beginnings), 0)


def _without_places(text: bytes) -> bytes:
    for place in _PLACES:
        text = place.sub(rb"\g<before>***", text)
    return text


def _quoted(value: str) -> str:
    return quote(value, safe="", errors="surrogateescape")
