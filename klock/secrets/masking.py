"""Text and the output of programs with `***` in place of each credential: `klock -v` writes into logs of CI machines.

Masked are the values that klock knows, in any form, and what programs print of others when they are told to be verbose,
which a server may have given away a moment ago: whatever is a credential by its place or its form, and every header of
a request that is one by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from klock.patterns import regex
from klock.secrets.finding import literals_in
from klock.secrets.spans import MASK, masked_at
from klock.secrets.userinfo import USERINFO, is_ssh_user
from klock.secrets.values import SHORTEST_SEARCHED
from klock.secrets.vocabulary import credential_name

__all__ = ["TAIL_LINES", "mask", "mask_known", "masked", "masked_tail"]

TAIL_LINES: Final = 20
"""lines"""
_LONGEST_TAIL: Final = 1 << 16
_LONGEST_HELD: Final = 1 << 14
_LONGEST_SHOWN: Final = 1 << 10

_COOKIE: Final = regex(r"(?i:\bcookie)(?::[ \t]*| [\w.-]{1,64}=)(?P<value>[^\r\n]+)")
"""The second as curl tells of its jar."""
_HEADER_LINE: Final = regex(
    r"^[<>] ?(?!(?i:authorization:))(?P<name>[\w-]{1,64}):[ \t]*(?P<value>[^\r\n]+)", re.MULTILINE
)
"""As curl and wget show requests and answers."""
_AUTHORIZATION: Final = regex(
    r"(?i:\b(?:proxy-)?authorization):[ \t]*(?:[A-Za-z][A-Za-z0-9-]{0,31}[ \t]+)?(?P<value>[^\s'\"]+)"
)
_QUERY: Final = regex(r"[?&](?P<name>[\w.-]{1,64})=(?P<value>[^&\s#'\"]+)")
# A word as long as this is opaque anyway, and would be searched for tokens from each of its parts on.
_LONG_WORD: Final = regex(r"[\w.-]{4096,}")

_MAY_HOLD: Final = regex(r"[:=@]|(?:^|\s)-|-----BEGIN|config|passw", re.IGNORECASE)
"""What stands in every line, before it, that has a credential in it; but for tokens, which are one word."""
_NOT_IN_WORDS: Final = regex(r"[^\w.+/~-]")
_OPEN_KEY: Final = regex(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?![\s\S]*-----END [A-Z ]*PRIVATE KEY-----)")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` fit for a log: `***` for each of `secrets`, the users and passwords of URLs, and literal credentials."""
    text = mask_known(text, tuple(secrets))
    return masked_at(text, _places_in(text))


def mask_known(text: str, secrets: tuple[str, ...]) -> str:
    """`text` with `***` for each of `secrets`, in any form."""
    known = _any_form_of(secrets)
    if known is not None:
        encoded = known.sub(MASK.encode("ascii"), text.encode("utf-8", "surrogatepass"))
        text = encoded.decode("utf-8", "surrogatepass")
    return text


@contextmanager
def masked(on_output: Callable[[bytes], None], secrets: Iterable[str]) -> Iterator[Callable[[bytes], None]]:
    """A function to call with what was printed, in any pieces; `on_output` gets it with `***` for each credential.

    What may be the beginning of one is held back until more comes or the block ends: of a line that may hold one all.
    """
    stream = _Stream(on_output, secrets)
    try:
        yield stream.write
    finally:
        stream.end()


def masked_tail(output: bytes, secrets: Iterable[str]) -> str:
    """The last lines a command printed, indented, without credentials: for messages."""
    # Places of credentials are short; a known one may have any length.
    known = _any_form_of(secrets)
    if known is not None:
        output = known.sub(MASK.encode("ascii"), output)
    lines = mask(output.rstrip()[-_LONGEST_TAIL:].decode("utf-8", "replace")).splitlines()[-TAIL_LINES:]
    return "".join(f"\n  | {line}" for line in lines)


class _Stream:
    def __init__(self, on_output: Callable[[bytes], None], secrets: Iterable[str]) -> None:
        self._on_output = on_output
        secrets = list(secrets)
        self._known = _any_form_of(secrets)
        forms = _forms(secrets)
        self._beginnings = {form[:length] for form in forms for length in range(1, len(form))}
        self._longest = max(map(len, forms), default=1) - 1
        self._shown = b""  # what was passed on of the line that has not ended
        self._held = b""

    def write(self, chunk: bytes) -> None:
        text = self._held + chunk
        if self._known is not None:
            text = self._known.sub(MASK.encode("ascii"), text)
        cut = min(self._beginning_of_known(text), self._beginning_of_place(text))
        self._pass_on(text[:cut])
        self._held = text[cut:]

    def end(self) -> None:
        self._pass_on(self._held)

    def _beginning_of_known(self, text: bytes) -> int:
        """Where the longest beginning of a known secret starts that the text ends with."""
        lengths = range(min(self._longest, len(text)), 0, -1)
        return len(text) - next((length for length in lengths if text[-length:] in self._beginnings), 0)

    def _beginning_of_place(self, text: bytes) -> int:
        """Where that starts which is a credential, or may become one when more comes."""
        line = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        rest = (b"" if line else self._shown) + text[line:]
        if not _MAY_HOLD.search(rest.decode("latin-1")):
            line = len(text) - len(_last_word(text[line:].decode("latin-1")))
        if key := _OPEN_KEY.search(text.decode("latin-1")):
            line = min(line, key.start())
        return max(line, len(text) - _LONGEST_HELD)

    def _pass_on(self, text: bytes) -> None:
        if not text:
            return
        # Latin-1 has a character for each byte: what is not text passes as it is.
        line = (self._shown + text).decode("latin-1")
        start = len(self._shown)
        places = [(max(first, start), last) for first, last in _places_in(line) if last > start]
        self._on_output(masked_at(line, places)[start:].encode("latin-1"))
        ended = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        self._shown = ((b"" if ended else self._shown) + text[ended:])[-_LONGEST_SHOWN:]


def _places_in(text: str) -> Iterator[tuple[int, int]]:
    """Where credentials stand in a text, as far as their places and forms tell."""
    if "eyJ" in text:
        text = _LONG_WORD.sub(lambda match: " " * len(match[0]), text)
    if "://" in text and "@" in text:
        yield from (match.span("userinfo") for match in USERINFO.finditer(text) if not is_ssh_user(match))
    lowered = text.lower()
    for pattern, sign in ((_COOKIE, "cookie"), (_AUTHORIZATION, "authorization")):
        if sign in lowered:
            yield from (match.span("value") for match in pattern.finditer(text))
    for pattern in (_HEADER_LINE, _QUERY):
        yield from (match.span("value") for match in pattern.finditer(text) if credential_name(match["name"]))
    yield from ((literal.start, literal.end) for literal in literals_in(text))


def _last_word(text: str) -> str:
    return _NOT_IN_WORDS.split(text)[-1]


def _forms(secrets: Iterable[str]) -> frozenset[bytes]:
    """The bytes that known values may stand as; of a short one not within base64, where it would stand by chance."""
    secrets = [secret for secret in secrets if secret]
    if not secrets:
        return frozenset()
    from klock.secrets.forms import forms_of

    plain = {secret.encode("utf-8", "surrogateescape") for secret in secrets}
    within = {form for s in secrets for form in forms_of(s, within_base64=len(s) >= SHORTEST_SEARCHED)}
    return frozenset(plain | within)


def _any_form_of(secrets: Iterable[str]) -> re.Pattern[bytes] | None:
    return _pattern_of(tuple(secrets))


@lru_cache(maxsize=16)
def _pattern_of(secrets: tuple[str, ...]) -> re.Pattern[bytes] | None:
    """Of two that begin alike the longer one; None without any."""
    forms = sorted(_forms(secrets), key=len, reverse=True)
    return re.compile(b"|".join(map(re.escape, forms))) if forms else None
