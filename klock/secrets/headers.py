"""The credentials in an HTTP header (RFC 9110, 11.6.2; RFC 6265)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

from klock.secrets.vocabulary import SCHEMES, TOKEN, credential_name
from klock.values import dataclass

__all__ = ["AUTHORIZATION_HEADERS", "COOKIE_HEADERS", "HeaderCredential", "Source", "credentials_in_header"]

AUTHORIZATION_HEADERS: Final = frozenset(["authorization", "proxy-authorization"])
COOKIE_HEADERS: Final = frozenset(["cookie", "set-cookie"])

_NO_PASSWORDS: Final = frozenset(["", "x-oauth-basic", "x-access-token", "oauth2", "__token__"])
"""Passwords that are none: the user name beside them is the token."""
_AWS_KEY: Final = re.compile(r"Credential=([^/,\s]+)")


class Source(Enum):
    """Where in a header a credential is from. A server may give away any number of cookies."""

    AUTHORIZATION = "authorization"
    COOKIE = "cookie"
    OWN = "a header of its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderCredential:
    """A credential as text; `within_base64`: programs write it within base64 too. `sure`: its name alone is proof."""

    value: str
    source: Source
    within_base64: bool = False
    sure: bool = True


def credentials_in_header(name: str, value: str) -> Iterator[HeaderCredential]:
    """The credentials in a header of a request or an answer."""
    name = name.lower()
    if name in AUTHORIZATION_HEADERS:
        for part, within_base64 in _authorization_parts(value.strip()):
            yield HeaderCredential(value=part, source=Source.AUTHORIZATION, within_base64=within_base64)
    elif name in COOKIE_HEADERS:
        pairs = value.split(";") if name == "cookie" else [value.partition(";")[0]]
        for pair in pairs:
            yield HeaderCredential(value=pair.partition("=")[2].strip().strip('"'), source=Source.COOKIE)
    elif entry := credential_name(name):
        yield HeaderCredential(value=value.strip(), source=Source.OWN, sure=entry.sure)


def _authorization_parts(value: str) -> Iterator[tuple[str, bool]]:
    scheme, space, rest = value.partition(" ")
    scheme, rest = scheme.lower(), rest.strip()
    if not space:
        yield value, True
    elif scheme == "basic":
        yield rest, False
        try:
            user, _, password = base64.b64decode(rest + "==").decode("utf-8", "replace").partition(":")
        except (binascii.Error, ValueError):
            return
        # Most user names are words that stand in many files; some are the token.
        if password in _NO_PASSWORDS or TOKEN.fullmatch(user):
            yield user, True
        if password not in _NO_PASSWORDS:
            yield password, True
    elif scheme.startswith("aws"):
        key = _AWS_KEY.search(rest)
        yield (key[1] if key else rest.partition(":")[0]), False
    elif SCHEMES.get(scheme, True):
        yield rest, True
        _, equals, quoted = rest.partition("=")
        if equals and "," not in quoted:
            yield quoted.strip('"'), True
