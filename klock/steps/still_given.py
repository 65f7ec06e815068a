"""Whether servers still give the answers that are locked: asked for in small, compared by what is locked of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from klock.asking import Asker
from klock.connections import is_near
from klock.digests import digest_of_bytes
from klock.errors import FetchError, KlockError
from klock.recorder.doors import Where, where_of
from klock.values import dataclass

__all__ = ["Given", "Other", "others_now"]

_SMALL: Final = 1 << 20
"""Bytes, up to which an answer is fetched to compare it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A locked answer. `sha256` (hex) and `size` in bytes are of its body as it was served, without another encoding;
    None and any where the body cannot be compared."""

    url: str
    status: int = 200
    size: int = 0
    sha256: str | None = None
    accept: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """What a server says instead: `words` go on after the URL. `is_gone`: it has nothing under that URL any more."""

    given: Given
    words: str
    is_gone: bool = False


def others_now(answers: Sequence[Given], asker: Asker, *, named: frozenset[Where]) -> Iterator[Other | KlockError]:
    """Those that are other answers today, and errors for what could not be asked.

    A lockfile may name any URL: servers of this machine or of its link are asked only if they are `named`.
    """
    asked = [each for each in answers if _may_be_asked(each.url, named)]
    for found in asker.each(lambda given: _now(given, asker), asked):
        if found is not None:
            yield found


def _may_be_asked(url: str, named: frozenset[Where]) -> bool:
    host = urlsplit(url).hostname or ""
    return where_of(url) in named or not is_near(host)


def _now(given: Given, asker: Asker) -> Other | None:
    headers = {} if given.accept is None else {"Accept": given.accept}
    compares = given.sha256 is not None and given.size <= _SMALL and given.status == 200
    answer = asker.ask(given.url, headers, method="GET" if compares else "HEAD", follow=False)
    if not compares and answer.status in (405, 501):
        raise FetchError(f"{given.url} does not answer HEAD: status {answer.status}")
    if answer.status != given.status:
        words = f"answers with status {answer.status} now, {given.status} is locked"
        return Other(given=given, words=words, is_gone=answer.status in (404, 410))
    length = answer.headers.get("content-length", "")
    if given.status == 200 and compares and answer.headers.get("content-encoding", "identity") == "identity":
        if digest_of_bytes(answer.body) != f"sha256:{given.sha256}":
            return Other(given=given, words="has other bytes now")
    elif given.status == 200 and given.sha256 is not None and length.isdecimal() and int(length) != given.size:
        return Other(given=given, words=f"has {length} bytes now, {given.size} are locked")
    return None
