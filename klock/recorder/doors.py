"""The servers that a command was told of: they open to it by the names they were told by, though these be addresses.

Otherwise a command reaches hosts by name only, and no name that leads to this machine. An index on 127.0.0.1 that the
user wrote down must work nevertheless; and a proxy that the image names leads to the recorder, which is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from klock.proxies import is_loopback
from klock.recorder.addresses import is_literal
from klock.values import dataclass

__all__ = ["Doors", "Where", "elsewhere", "where_of", "wheres_in"]

Where: TypeAlias = tuple[str, int]
"""A host, in lower case and without brackets, and a port."""

_URL: Final = re.compile(r"\bhttps?://[^\s'\"<>\\;,]+", re.IGNORECASE)
_PORTS: Final = {"http": 80, "https": 443}
_LOCALHOST: Final = ("127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class Doors:
    """`origins`: servers that the user names, and that may be on this machine. `proxies`: what settings of the image
    name as a proxy; a request that comes there as to a proxy is one for the server that it names."""

    origins: frozenset[Where] = frozenset()
    proxies: frozenset[Where] = frozenset()

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(sorted({port for _, port in self._all}))

    @property
    def loopback(self) -> tuple[Where, ...]:
        """Where the command finds those on its own loopback: addresses and ports."""
        found = {
            (address, port)
            for host, port in self._all
            if is_loopback(host)
            for address in (_LOCALHOST if host.endswith("localhost") else (host,))
        }
        return tuple(sorted(found))

    def has_host(self, name: str) -> bool:
        return name in self._hosts

    def host_at(self, address: str, port: int) -> str | None:
        """Which of them an address, and no name, leads to."""
        if (address, port) in self._all:
            return address
        return "localhost" if address in _LOCALHOST and ("localhost", port) in self._all else None

    def is_origin(self, host: str, port: int) -> bool:
        return (host.strip("[]"), port) in self.origins

    @cached_property
    def _all(self) -> frozenset[Where]:
        return self.origins | self.proxies

    @cached_property
    def _hosts(self) -> frozenset[str]:
        return frozenset(host for host, _ in self._all)


def elsewhere(wheres: Iterable[Where]) -> frozenset[Where]:
    """Those at addresses of other machines: of what somebody else names, these may be reached. Names are looked up."""
    return frozenset(where for where in wheres if is_literal(where[0]) and not is_loopback(where[0]))


def where_of(url: str) -> Where | None:
    """The host and port of an HTTP URL; None for any other text."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme.lower(), 0)
    except ValueError:
        return None
    host = (parts.hostname or "").rstrip(".").lower()
    return (host, port) if host and port and parts.scheme.lower() in _PORTS else None


def wheres_in(texts: Iterable[str]) -> frozenset[Where]:
    """Those of all HTTP URLs in the texts."""
    return frozenset(where for text in texts for url in _URL.findall(text) if (where := where_of(url)))
