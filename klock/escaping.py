"""Text of others on its way to a terminal or a log: names, answers, the output of programs. What a terminal would obey,
or a reader could not see, is shown as Python writes it: `\\x1b`, `\\u202e`.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from klock.patterns import regex

__all__ = ["ForeignText", "escaped", "on_one_line"]

_UNSEEN: Final = regex(
    # C0 but tab and line feed, DEL and C1.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    # What changes the direction of text, or takes no place: a name that hides its end. Lines of Unicode's own.
    "\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff"
    # Bytes that are not text (PEP 383), and halves of characters.
    "\ud800-\udfff]"
)
_OWN_WORDS: Final = regex(r"\n(?=(?:error|hint|warning|interrupted|stale-\w+|drift-[\w-]+): )")
_COLOURS: Final = regex(r"\x1b\[[0-9;:]*m")
_UNFINISHED: Final = regex(r"\r?\x1b(?:\[[0-9;:]{0,32})?\Z|\r\Z")


def escaped(text: str) -> str:
    """`text` as it may be shown: its lines stay, and none of them begins as klock's own do."""
    if _is_plain(text):
        return text
    text = _UNSEEN.sub(_shown, text)
    return _OWN_WORDS.sub("\n  ", text)


def on_one_line(text: str) -> str:
    """`text` as it may be shown where one line is one thing, such as a finding: line breaks are shown, too."""
    if _is_plain(text):
        return text
    return _UNSEEN.sub(_shown, text).replace("\n", "\\n")


def _is_plain(text: str) -> bool:
    """Most texts are one line of ASCII. Seeing that takes less time than compiling the patterns."""
    return text.isascii() and text.isprintable()


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class ForeignText:
    """What a program prints, in any pieces, as text to show.

    Colours are left out (they can hide words), a carriage return begins a new line, and everything else that a terminal
    would obey is shown.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""

    def feed(self, piece: bytes) -> str:
        """What can be shown by now."""
        text = _COLOURS.sub("", self._held + self._decoder.decode(piece))
        unfinished = _UNFINISHED.search(text)
        cut = unfinished.start() if unfinished else len(text)
        self._held = text[cut:]
        return self._cleaned(text[:cut])

    def end(self) -> str:
        """What was held back, as it might have been the beginning of something."""
        text, self._held = self._held + self._decoder.decode(b"", final=True), ""
        return self._cleaned(text)

    @staticmethod
    def _cleaned(text: str) -> str:
        return _UNSEEN.sub(_shown, text.replace("\r\n", "\n").replace("\r", "\n"))
