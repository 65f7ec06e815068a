"""Takes times, and the order in which downloads ended, out of the notes of conda, mamba and micromamba.

`conda-meta/history` marks a folder as an environment, `pkgs/urls.txt` as a store of packages: neither can be left out.
Formats: conda's `conda/history.py` and `conda/core/package_cache_data.py`, mamba's `libmamba/src/core/history.cpp`.
"""

from __future__ import annotations

import datetime
import itertools
import re
from typing import Final

__all__ = ["creation_without_time", "history_without_times", "sorted_urls"]

_HEAD: Final = re.compile(rb"==> \d{4}-\d\d-\d\d \d\d:\d\d:\d\d <==\n")
_CHANGE: Final = (b"+", b"-")
_SECONDS: Final = re.compile(rb"\d{9,10}(\.\d{1,9})?(\n?)")
_URL: Final = re.compile(rb"[a-z][a-z0-9+.-]{0,20}:/[^\s#]+\.(?:conda|tar\.bz2)(?:#[0-9a-f]{32,64})?\n")


def history_without_times(history: bytes, *, seconds: int) -> bytes:
    """The history with `seconds` (since 1970, in UTC) as the time of every transaction, and its packages sorted.

    Both programs read the packages of a transaction as a set. What does not begin with a transaction, or breaks off,
    comes back unchanged.
    """
    if not _HEAD.match(history) or not history.endswith(b"\n"):
        return history
    head = b"==> %s <==\n" % _time(seconds).strftime("%Y-%m-%d %H:%M:%S").encode("ascii")
    lines = (head if _HEAD.fullmatch(line) else line for line in history.splitlines(keepends=True))
    groups = itertools.groupby(lines, key=lambda line: line[:1] if line.startswith(_CHANGE) else b"")
    return b"".join(b"".join(sorted(group) if sign else group) for sign, group in groups)


def creation_without_time(note: bytes, *, seconds: int) -> bytes:
    """The note of when an environment was made, as if that was `seconds` after 1970: ISO 8601, or a number of seconds.

    What is neither comes back unchanged.
    """
    if number := _SECONDS.fullmatch(note):
        return b"%d%s%s" % (seconds, b".0" if number[1] else b"", number[2])
    text = note.removesuffix(b"\n")
    try:
        was = datetime.datetime.fromisoformat(text.decode("ascii"))
    except ValueError:
        return note
    if not re.match(rb"\d{4}-\d\d-\d\d[T ]\d\d", text):
        return note  # a date alone is not a time, and Python reads more forms than conda writes
    moment = _time(seconds) if was.tzinfo else _time(seconds).replace(tzinfo=None)
    return moment.isoformat(sep=chr(text[10])).encode("ascii") + note[len(text) :]


def sorted_urls(urls: bytes) -> bytes:
    """The lines in sorted order, if each is the URL of a package. conda adds one when a download ends, and several run
    at once."""
    lines = urls.splitlines(keepends=True)
    return b"".join(sorted(lines)) if all(_URL.fullmatch(line) for line in lines) else urls


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
