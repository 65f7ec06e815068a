"""`--chmod`: octal, or symbolic as chmod(1) has it (`u=rwX,go=rX`), which BuildKit takes too."""

from __future__ import annotations

import re
from typing import Final

from klock.errors import ImageError
from klock.lockfile.model import FileEntry
from klock.patterns import regex
from klock.values import replace

__all__ = ["FOLDER_MODE", "changed_mode", "check_mode", "is_mode", "mode_of_new_folder", "with_mode"]

FOLDER_MODE: Final = 0o755
"""The mode of a folder to which nobody gave one."""
_OCTAL: Final = regex(r"0*[0-7]{1,4}")
_CLAUSE: Final = regex(r"(?P<who>[ugoa]*)(?P<changes>(?:[-+=][rwxXstugo]*)+)")
_BITS: Final = {"r": 4, "w": 2, "x": 1}
_SHIFT: Final = {"u": 6, "g": 3, "o": 0}


def is_mode(text: str) -> bool:
    return bool(_OCTAL.fullmatch(text)) or all(_CLAUSE.fullmatch(clause) for clause in text.split(","))


def check_mode(text: str) -> str:
    """Raises ImageError for what is not a mode."""
    if not is_mode(text):
        raise ImageError(f"--chmod={text} is not a mode", hint="write for example --chmod=755 or --chmod=u=rwX,go=rX")
    return text


def mode_of_new_folder(text: str | None) -> int:
    """The mode of a folder that is made for the content of another one: octal digits set it, letters change nothing."""
    return int(text, 8) & 0o777 if text is not None and _OCTAL.fullmatch(text) else FOLDER_MODE


def changed_mode(mode: int, text: str | None, *, is_folder: bool) -> int:
    """A file's or folder's mode after `chmod text`."""
    if text is None:
        return mode
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        assert match is not None
        who = match["who"].replace("a", "ugo") or "ugo"
        for change in re.findall(r"[-+=][rwxXstugo]*", match["changes"]):
            mode = _changed(mode, change[0], change[1:], who, is_folder=is_folder)
    return mode


def with_mode(entry: FileEntry, text: str | None) -> FileEntry:
    if text is None or entry.target is not None:
        return entry
    return replace(entry, mode=changed_mode(entry.mode, text, is_folder=entry.is_folder))


def _changed(mode: int, action: str, letters: str, who: str, *, is_folder: bool) -> int:
    bits, every = 0, 0
    for each in set(who):
        every |= 7 << _SHIFT[each] | {"u": 0o4000, "g": 0o2000, "o": 0o1000}[each]
        for letter in letters:
            if letter in _BITS or (letter == "X" and (is_folder or mode & 0o111)):
                bits |= _BITS.get(letter, 1) << _SHIFT[each]
            elif letter in _SHIFT:
                bits |= (mode >> _SHIFT[letter] & 7) << _SHIFT[each]
            elif letter == "s":
                bits |= {"u": 0o4000, "g": 0o2000, "o": 0}[each]
            elif letter == "t":
                bits |= 0o1000
    if action == "+":
        return mode | bits
    return mode & ~bits if action == "-" else (mode & ~every) | bits
