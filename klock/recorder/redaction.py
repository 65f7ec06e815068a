"""The credentials that are met in the requests and answers of one step, and their removal from what is stored.

Bytes are searched for them in the forms that programs give them (`klock.secrets.forms`). Answers that hand out
credentials are replaced by stand-ins.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, quote_plus

from klock.secrets.forms import forms_of, in_base64
from klock.secrets.headers import HeaderCredential, Source, credentials_in_header
from klock.secrets.signatures import HANDED_OUT
from klock.secrets.spans import MASK
from klock.secrets.urls import normal_pattern, normal_url, pattern_matches
from klock.secrets.values import SHORTEST_SEARCHED, may_be_secret

__all__ = ["Redaction", "TooManyTexts"]

_SHORTEST_SIGNATURE: Final = 16
_RANDOM: Final = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/=_-]{16}")
"""Both letters and digits in one long word: no date, no name."""
# A service may give new ones with each answer, and each makes the search of everything slower.
_MOST_COOKIES: Final = 64
_MOST_SIGNATURES: Final = 64
_MOST_TEXTS: Final = 500
_LARGEST_TOKEN_BODY: Final = 64 * 1024
_SHORTEST_TOKEN: Final = 16

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d.{0,40}")
_TIME_STAND_IN: Final = "2099-12-31T00:00:00Z"
_KNOWN_WORDS: Final = {"token_type": frozenset(["bearer", "basic", "mac", "n_a"])}
_WORDS: Final = re.compile(r"[A-Za-z]{1,24}(?:[ ._:/-][A-Za-z]{1,24}){0,8}|https?://[^/?#@]*/?")
"""Plain words, and hosts."""


class TooManyTexts(Exception):
    """Private answers hold more texts than can be searched for."""

    def __init__(self) -> None:
        super().__init__(
            f"private answers of the step hold more than {_MOST_TEXTS} texts, too many to search for; private_urls "
            "should name only URLs that hand out a secret"
        )


class Redaction:
    """What is secret in the requests of one step, and its removal. Any thread may use it.

    `secrets` are the values of the variables that the step takes from the process environment. `private_urls` are
    patterns of URLs whose answers are never stored: `*` stands for anything, and a pattern without `?` for any query.
    Values shorter than 6 characters are not searched for: they would be found everywhere.
    """

    def __init__(self, *, secrets: Sequence[str], private_urls: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._met: set[str] = set()
        self._cookies = 0
        self._signatures = 0
        self._texts = 0
        # Replaced as a whole when one is added, so that readers need no lock.
        self._secrets: tuple[bytes, ...] = ()
        self._forms: tuple[bytes, ...] = ()
        for secret in secrets:
            self._add(secret, within_base64=True)
        self._patterns = tuple(normal_pattern(pattern, self._secrets) for pattern in private_urls)

    # -- URLs

    def url(self, url: str) -> str:
        """The URL in its normal form without credentials; see `normal_url`. Applied again it changes nothing."""
        return normal_url(url, self._secrets)

    def location(self, url: str) -> str:
        """`url` for a header that a client follows: user and password stay as `***`, so that it sends some."""
        return normal_url(url, self._secrets, keep_userinfo=True)

    def is_private(self, url: str) -> bool:
        """Whether the answers of this URL (as `url` returned it) are never stored, as one of the patterns says."""
        return any(pattern_matches(pattern, url) for pattern in self._patterns)

    # -- secrets

    def add_secret(self, value: str) -> None:
        """Keeps a credential that was met: from now on it is searched for and masked."""
        with self._lock:
            self._meet(value, within_base64=True)

    def add_header(self, name: str, value: str) -> None:
        """Keeps the credentials in a header of a request or an answer, if it is one that holds any."""
        for credential in credentials_in_header(name, value):
            if credential.source is Source.COOKIE:
                self._meet_cookie(credential)
            elif credential.sure:
                with self._lock:
                    self._meet(credential.value, within_base64=credential.within_base64)
            else:
                self._meet_signature(credential)

    def add_url(self, url: str) -> None:
        """Keeps the credentials and signatures in the query of a URL, those that look random."""
        shown = dict(parse_qsl(_query(self.url(url)), keep_blank_values=True))
        for name, value in parse_qsl(_query(url)):
            if shown.get(name, "") == MASK and len(value) >= _SHORTEST_SIGNATURE and _RANDOM.search(value):
                self._meet_signature(HeaderCredential(value=value, source=Source.OWN))

    @property
    def values(self) -> tuple[str, ...]:
        """What was met, by `add_secret`, `add_header` and `stand_in`; sorted."""
        with self._lock:
            return tuple(sorted(self._met))

    @property
    def longest(self) -> int:
        """The size in bytes of the longest form of a secret, at least 1: parts of a stream must overlap by one less.

        It grows as secrets are met.
        """
        return max(map(len, self._forms), default=1)

    def find_secret(self, data: bytes | bytearray) -> bool:
        """Whether a known secret stands in the data, in any form. Fast: one search of some GB/s for each form."""
        return any(form in data for form in self._forms)

    def mask(self, data: bytes) -> bytes:
        """`data` with `***` for each known secret in any form, and for a `***` that was percent-encoded."""
        for form in self._forms:
            data = data.replace(form, b"***")
        return data.replace(b"%2A%2A%2A", b"***").replace(b"%2a%2a%2a", b"***")

    # -- bodies

    def holds_token(self, body: bytes, content_type: str) -> bool:
        """Whether an answer hands out a credential, as token endpoints do (RFC 6749, 5.1): such answers are private."""
        if len(body) > _LARGEST_TOKEN_BODY:
            return False
        lowered = body.lower()
        if b"token" not in lowered and b"secret" not in lowered:
            return False
        if _is_form(content_type):
            value: object = dict(_read_form(body) or ())
        else:
            try:
                value = json.loads(body)
            except (ValueError, RecursionError):
                return False
        return isinstance(value, dict) and any(_is_token(key, leaf) for key, leaf in value.items())

    def stand_in(self, body: bytes, content_type: str) -> bytes:
        """What is stored in place of a private answer: its shape without its values, which are kept as secrets.

        In JSON each string becomes `***`; but a time becomes one in 2099, and a known word such as `Bearer` stays, as
        programs refuse others there. Of a form the names stay; anything else becomes `***`. Raises TooManyTexts.
        """
        if _is_form(content_type):
            pairs = _read_form(body)
            if pairs is not None:
                return "&".join(f"{quote_plus(key)}={self._leaf(key, value)}" for key, value in pairs).encode("ascii")
        elif body.lstrip()[:1] in (b"{", b"[", b'"'):
            try:
                return json.dumps(self._shape("", json.loads(body))).encode("ascii")
            except (ValueError, RecursionError):
                pass
        self._keep_leaf(body.decode("utf-8", "replace").strip())
        return MASK.encode("ascii")

    def _shape(self, key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._shape(key, leaf) for key, leaf in value.items()}
        if isinstance(value, list):
            return [self._shape(key, leaf) for leaf in value]
        return self._leaf(key, value) if isinstance(value, str) else value

    def _leaf(self, key: str, value: str) -> str:
        if value.lower() in _KNOWN_WORDS.get(key, ()):
            return value
        if _TIME.fullmatch(value):
            return _TIME_STAND_IN
        self._keep_leaf(value)
        return MASK

    def _keep_leaf(self, value: str) -> None:
        # Of a word nobody knows, when the step is replayed, that this answer once held it.
        if not _is_word(value):
            with self._lock:
                if self._meet(value, within_base64=True):
                    self._texts += 1
                    if self._texts > _MOST_TEXTS:
                        raise TooManyTexts

    # -- what is known

    def _meet_cookie(self, cookie: HeaderCredential) -> None:
        if not _is_word(cookie.value):
            with self._lock:
                if self._cookies < _MOST_COOKIES and self._meet(cookie.value):
                    self._cookies += 1

    def _meet_signature(self, credential: HeaderCredential) -> None:
        if not _is_word(credential.value):
            with self._lock:
                if self._signatures < _MOST_SIGNATURES and self._meet(credential.value):
                    self._signatures += 1

    def _meet(self, value: str, *, within_base64: bool = False) -> bool:
        if value in self._met or len(value) < SHORTEST_SEARCHED:
            return False
        self._met.add(value)
        self._add(value, within_base64=within_base64)
        return True

    def _add(self, value: str, *, within_base64: bool) -> None:
        if len(value) < SHORTEST_SEARCHED:
            return
        self._forms = _longest_first({*self._forms, *forms_of(value, within_base64=within_base64)})
        plain = value.encode("utf-8", "surrogatepass")
        in_urls = {plain, plain.replace(b" ", b"+"), *(in_base64(plain) if within_base64 else ())}
        self._secrets = _longest_first({*self._secrets, *in_urls})


def _longest_first(values: set[bytes]) -> tuple[bytes, ...]:
    """One may be a part of another."""
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


def _is_word(value: str) -> bool:
    """What stands everywhere."""
    return not may_be_secret(value) or _WORDS.fullmatch(value) is not None


def _query(url: str) -> str:
    """Of any text that was sent as a URL, where urlsplit raises errors."""
    return url.partition("#")[0].partition("?")[2]


def _is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"


def _read_form(body: bytes) -> list[tuple[str, str]] | None:
    try:
        return parse_qsl(body.decode("ascii").strip(), keep_blank_values=True, strict_parsing=True)
    except ValueError:
        return None


def _is_token(key: str, value: object) -> bool:
    if not isinstance(value, str) or not value:
        return False
    plain = key.lower().replace("_", "").replace("-", "")
    return plain in HANDED_OUT or (plain == "token" and len(value) >= _SHORTEST_TOKEN)
