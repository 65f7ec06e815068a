"""The user and password of a URL (RFC 3986, 3.2.1)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from klock.patterns import regex
from klock.values import dataclass, field

__all__ = ["KEPT_IN_USERINFO", "USERINFO", "PrivateUrl", "in_userinfo", "is_ssh_user"]

# No scheme is as long as 32 characters; without the bound a long word would be searched from each of its letters on.
USERINFO: Final = regex(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31})://(?P<userinfo>[^\s/?#]*)@")
"""The user and password of a URL: all up to the last `@` of the authority."""

KEPT_IN_USERINFO: Final = "!$&'()*+,;="
"""Besides unreserved characters the sub-delims need no percent-encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateUrl:
    """A URL, and apart from it, never shown, the user and password to fetch it with."""

    url: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.url

    @classmethod
    def parse(cls, text: str) -> PrivateUrl:
        match = USERINFO.match(text)
        if match is None or is_ssh_user(match):
            return cls(url=text)
        user, colon, password = match["userinfo"].partition(":")
        url = f"{match['scheme']}://{text[match.end() :]}"
        return cls(url=url, username=unquote(user), password=unquote(password) if colon else None)

    @property
    def with_credentials(self) -> str:
        if self.username is None:
            return self.url
        scheme, _, rest = self.url.partition("://")
        password = "" if self.password is None else f":{in_userinfo(self.password)}"
        return f"{scheme}://{in_userinfo(self.username)}{password}@{rest}"


def is_ssh_user(match: re.Match[str]) -> bool:
    """Whether a match of USERINFO is not a credential: a user without a password, as in `git+ssh://git@host`."""
    return "ssh" in match["scheme"].lower() and ":" not in match["userinfo"]


def in_userinfo(text: str) -> str:
    """A user or password as it is written into a URL."""
    return quote(text, safe=KEPT_IN_USERINFO)
