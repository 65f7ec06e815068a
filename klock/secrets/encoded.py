"""Words in base64 (RFC 4648, either alphabet) or in hexadecimal digits, with the text that they stand for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Final

from klock.patterns import regex
from klock.values import dataclass

__all__ = ["USER_AND_PASSWORD", "EncodedWord", "encoded_words"]

USER_AND_PASSWORD: Final = regex(r"[A-Za-z0-9_][\w.@+-]{0,99}:(?!//)(?=.*\w)[^\s:]{4,}")
"""What an Authorization header and the settings of docker and npm hold in base64."""

_WORD: Final = regex(r"(?<![A-Za-z0-9+/_.-])[A-Za-z0-9+/_-]{12,}={0,2}(?![A-Za-z0-9+/_.-])")
_HEX: Final = regex(r"(?:[0-9A-Fa-f]{2}){12,}")
_LONGEST: Final = 1 << 16
_BEGINNING: Final = 12
_TEXT: Final = frozenset([*range(0x20, 0x7F), *b"\t\r\n"])


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedWord:
    """`plain` is what stands in a text from `start` to `end`, decoded."""

    start: int
    end: int
    plain: str


def encoded_words(text: str) -> Iterator[EncodedWord]:
    """The words of a text that are text in base64 or in hexadecimal digits: few words are by chance."""
    for match in _WORD.finditer(text):
        plain = _decoded(match[0])
        if plain is not None:
            yield EncodedWord(start=match.start(), end=match.end(), plain=plain)


def _decoded(word: str) -> str | None:
    if len(word) > _LONGEST:
        return None
    if _HEX.fullmatch(word):
        return _as_text(bytes.fromhex(word))
    word = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    if len(word) % 4 == 1 or _from_base64(word[:_BEGINNING]) is None:
        return None
    return _from_base64(word)


def _from_base64(word: str) -> str | None:
    try:
        return _as_text(base64.b64decode(word + "=" * (-len(word) % 4), validate=True))
    except binascii.Error:
        return None


def _as_text(content: bytes) -> str | None:
    return content.decode("ascii") if _TEXT.issuperset(content) else None
