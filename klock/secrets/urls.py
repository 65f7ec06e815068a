"""URLs without their credentials, in one normal form, so that a request made again has the same URL.

`***` stands for each user and password, each credential in the query or the path, and each part of a signature, which
differs from one moment to the next (`klock.secrets.signatures`).

URLs may be hostile. Each is read a bounded number of times, and nothing here takes more than linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Final
from urllib.parse import quote

from klock.secrets.signatures import SIGNATURES, SIGNED_ALONE, TIMED
from klock.secrets.spans import MASK, masked_at
from klock.secrets.userinfo import USERINFO
from klock.secrets.vocabulary import TOKEN, credential_name

__all__ = ["normal_pattern", "normal_url", "pattern_matches", "without_tokens"]

_MOST_ROUNDS: Final = 8
_MOST_ENCODINGS: Final = 3
_LONGEST_NAME: Final = 200
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

_IN_URLS: Final = "".join(map(chr, range(0x21, 0x7F)))
_ORIGIN: Final = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?//(?P<authority>[^/?#]*)")
_PORT: Final = re.compile(r":(?P<port>[^:\]]*)\Z")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_ENCODED_MASK: Final = re.compile(r"%2[Aa]%2[Aa]%2[Aa]")
_PARAMETER: Final = re.compile(r"(?<=[?&])(?P<name>[^=&?]*)=")
_PATH_PARAMETER: Final = re.compile(r"(?<=[;~/])(?P<name>[\w.-]{1,64})=(?P<value>[^;~/?&]*)")
# TOKEN takes quadratic time to see that a word is not a JSON web token. Words as long as this are opaque anyway.
_LONG_WORD: Final = re.compile(r"[\w.-]{4096,}")


def normal_url(url: str, secrets: Sequence[bytes], *, keep_userinfo: bool = False) -> str:
    """`url`, absolute or relative, in its normal form without credentials; `secrets` are masked wherever they stand.

    Scheme and host are lower case; the default port, the fragment, user and password are dropped (`keep_userinfo`:
    masked instead). Only printable ASCII is left. Applied again it changes nothing.
    """
    # Next to a `***` something may be recognised that was the middle of a word before: repeat until nothing changes.
    for _ in range(_MOST_ROUNDS):
        before, url = url, _normal_url_once(url, secrets, keep_userinfo=keep_userinfo)
        if url == before:
            return url
    return MASK


def without_tokens(text: str) -> str:
    """Any text with `***` for the user and password of each URL in it, and for tokens of a well-known shape."""
    return masked_at(text, _tokens_in(text))


def normal_pattern(pattern: str, secrets: Sequence[bytes]) -> str:
    """A pattern of URLs, `*` standing for anything, in the form that `pattern_matches` compares.

    It may leave out the scheme, which stands for any; without a path it stands for all of a host.
    """
    if pattern.startswith("*"):
        return pattern
    pattern = _without_secrets(pattern, secrets)
    match = _ORIGIN.match(pattern) or _ORIGIN.match(f"//{pattern}")
    if match is None:
        return pattern
    scheme = (match["scheme"] or "").lower()
    host = _normal_host(scheme, match["authority"].rpartition("@")[2], secrets)
    rest = _without_credentials(match.string[match.end() :]) or "/*"
    return f"{scheme}://{host}{rest}".removeprefix(":")


def pattern_matches(pattern: str, url: str) -> bool:
    """Whether a normal pattern stands for a normal URL. Without `?` it stands for any query."""
    if "?" not in pattern:
        url = url.partition("?")[0]
    if pattern.startswith("//"):
        url = url[url.find("//") :]
    return _glob_matches(pattern, url)


def _normal_url_once(url: str, secrets: Sequence[bytes], *, keep_userinfo: bool) -> str:
    # First of all: a secret that was not encoded may hold any of the characters that end a part of a URL.
    url = _without_secrets(url, secrets).partition("#")[0]
    match = _ORIGIN.match(url)
    if match is None:
        return _without_credentials(url)
    scheme = (match["scheme"] or "").lower()
    userinfo, host, rest = _split_authority(match["authority"], url[match.end() :])
    user = f"{MASK}:{MASK}@" if userinfo and keep_userinfo else ""
    if not rest.startswith("/"):
        rest = f"/{rest}"
    origin = f"{scheme}://{user}{_normal_host(scheme, host, secrets)}".removeprefix(":")
    return origin + _without_credentials(rest)


def _split_authority(authority: str, rest: str) -> tuple[str, str, str]:
    """User and password, host with port, and what follows them."""
    userinfo, _, host = authority.rpartition("@")
    port = _PORT.search(host)
    if port is not None and port["port"] and not _is_number(port["port"]) and "@" in rest:
        # No port: the start of a password that was not encoded, with a slash or a question mark in it.
        password, _, rest = rest.rpartition("@")
        end = re.search(r"[/?]|\Z", rest)
        cut = end.start() if end else 0
        return f"{authority}{password}", rest[:cut], rest[cut:]
    return userinfo, host, rest


def _normal_host(scheme: str, host: str, secrets: Sequence[bytes]) -> str:
    host = host.lower()
    port = _PORT.search(host)
    number = ""
    if port is not None:
        host = host[: port.start()]
        number = port["port"]
        if _is_number(number):
            number = number.lstrip("0") or "0"
        elif number:
            number = MASK
    for secret in secrets:
        host = host.replace(secret.decode("utf-8", "replace").lower(), MASK)
    return host if number in ("", _DEFAULT_PORTS.get(scheme)) else f"{host}:{number}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _without_secrets(text: str, secrets: Sequence[bytes]) -> str:
    """`text` in printable ASCII, with `***` for each of `secrets`, however often it was percent-encoded."""
    raw = text.encode("utf-8", "surrogatepass")
    for secret in secrets:
        raw = raw.replace(secret, b"***")
    text = quote(raw, safe=_IN_URLS)
    if not secrets:
        return text
    return _masked_in_every_decoding(text, lambda content: _occurrences(content, secrets))


def _without_credentials(text: str) -> str:
    """A path and query (ASCII) with `***` for each credential in it, however often it was percent-encoded."""
    return _masked_in_every_decoding(_ENCODED_MASK.sub(MASK, text), _credentials_in)


def _masked_in_every_decoding(text: str, find: Callable[[bytes], Iterable[tuple[int, int]]]) -> str:
    spans: list[tuple[int, int]] = []
    for content, starts in _decodings(text.encode("ascii")):
        spans.extend((starts[start], starts[end]) for start, end in find(content) if start < end)
    return masked_at(text, spans) if spans else text


def _decodings(content: bytes) -> Iterator[tuple[bytes, Sequence[int]]]:
    """The content as it is, percent-decoded, decoded again...; and of each byte where it began in the first."""
    starts: Sequence[int] = range(len(content) + 1)
    yield content, starts
    for _ in range(_MOST_ENCODINGS):
        decoded = bytearray()
        decoded_starts: list[int] = []
        position = 0
        for match in _ESCAPE.finditer(content):
            decoded += content[position : match.start()]
            decoded_starts += starts[position : match.start() + 1]
            decoded.append(int(match[1], 16))
            position = match.end()
        if position == 0:
            return
        decoded += content[position:]
        decoded_starts += starts[position:]
        content, starts = bytes(decoded), decoded_starts
        yield content, starts


def _occurrences(content: bytes, values: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    for value in values:
        position = content.find(value)
        while position >= 0:
            yield position, position + len(value)
            position = content.find(value, position + len(value))


def _credentials_in(content: bytes) -> Iterator[tuple[int, int]]:
    text = content.decode("latin-1")
    yield from _parameters_in(text)
    yield from _tokens_in(text)


def _tokens_in(text: str) -> Iterator[tuple[int, int]]:
    """Users and passwords of URLs, and tokens of a well-known shape."""
    yield from (match.span("userinfo") for match in USERINFO.finditer(text))
    yield from (match.span() for match in _LONG_WORD.finditer(text))
    text = _LONG_WORD.sub(lambda match: " " * len(match[0]), text)
    yield from (match.span("value") for match in TOKEN.finditer(text))


def _parameters_in(text: str) -> Iterator[tuple[int, int]]:
    in_query = list(_PARAMETER.finditer(text))
    in_path = list(_PATH_PARAMETER.finditer(text))
    names = {_name_of(match).lower() for match in (*in_query, *in_path)}
    signed = {part for signature in SIGNATURES if names & signature.marks for part in signature.parts}
    done = 0
    for match in in_query:
        name = _name_of(match)
        timed = TIMED.get(name.lower())
        if match.end() < done or not (timed or _is_masked(name, signed)):
            continue
        end = text.find("&", match.end())
        end = len(text) if end < 0 else end
        if timed and timed.fullmatch(text, match.end(), end) is None:
            continue
        yield match.end(), end
        done = end
    for match in in_path:
        if _is_masked(_name_of(match), signed):
            yield match.span("value")


def _name_of(match: re.Match[str]) -> str:
    return match["name"][-_LONGEST_NAME:]


def _is_masked(name: str, signed: Set[str]) -> bool:
    """Whether what stands under this name is a credential or a part of a signature."""
    lowered = name.lower()
    return lowered in signed or SIGNED_ALONE.fullmatch(lowered) is not None or credential_name(name) is not None


def _glob_matches(pattern: str, text: str) -> bool:
    """`fnmatch` with `*` only, in linear time: each piece at the first place after the one before."""
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    if not text.startswith(first):
        return False
    *middle, last = others
    position = len(first)
    for piece in middle:
        found = text.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    return len(text) - position >= len(last) and text.endswith(last)
