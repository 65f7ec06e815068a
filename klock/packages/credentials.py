"""Who klock is to an index: user names and passwords by origin, and their removal from all that is kept or shown.

They come from index URLs (`https://user:password@host/simple`), from `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD`, and
from netrc, as with uv and pip. An object of this module is never written anywhere.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from klock.secrets.masking import mask
from klock.secrets.references import refuse_literals

__all__ = ["Credentials", "public_url", "without_credentials"]


def without_credentials(url: str) -> str:
    """The URL without user name and password. The `git@` of an SSH URL stays: it is no secret."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme.endswith("ssh") and parts.password is None and parts.username:
        host = f"{parts.username}@{host}"
    return urlunsplit(parts._replace(netloc=host))


def public_url(url: str) -> str:
    """The URL of an index without user name and password, as the lockfile may hold it.

    Raises ImageError for one that holds a credential elsewhere: it could neither be locked nor be asked without.
    """
    bare = without_credentials(url)
    refuse_literals(bare, what=f"the index {bare.partition('?')[0]}")
    return bare


class Credentials:
    """User name and password for each origin (scheme, host, port).

    `ca_bundle`: a PEM file with certificates that are trusted besides the host's when they are used.
    """

    def __init__(self, *, netrc: Path | None = None, ca_bundle: Path | None = None) -> None:
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        self._netrc = netrc
        self.ca_bundle = ca_bundle

    @classmethod
    def collect(
        cls,
        *,
        environments: Iterable[Mapping[str, str]] = (),
        urls: Iterable[str] = (),
        netrc: Path | None = None,
        ca_bundle: Path | None = None,
    ) -> Credentials:
        """Those in any URL of `environments` (what steers uv and pip) and `urls`; netrc answers for the rest."""
        found = cls(netrc=netrc, ca_bundle=ca_bundle)
        for environment in environments:
            names: dict[str, str] = {}
            for name, value in environment.items():
                if not name.startswith(("UV_", "PIP_")):
                    continue
                for part in value.split():
                    index, equals, url = part.partition("=")
                    if equals and re.fullmatch(r"[A-Za-z0-9._-]+", index) and "://" in url:
                        names[re.sub(r"[^A-Z0-9]", "_", index.upper())] = url
                        part = url
                    found.learn(part)
            for index, url in names.items():
                user = environment.get(f"UV_INDEX_{index}_USERNAME")
                password = environment.get(f"UV_INDEX_{index}_PASSWORD")
                if user or password:
                    found._known.setdefault(_origin(url), (user or "", password or ""))
        for url in urls:
            found.learn(url)
        return found

    def learn(self, url: str) -> None:
        """Keeps the credentials of `url`, if it has any. The first for an origin wins."""
        if "@" not in url or "://" not in url:
            return
        parts = urlsplit(url.partition("+")[2] if url.startswith(("git+", "hg+", "svn+", "bzr+")) else url)
        if parts.username is not None:
            pair = (unquote(parts.username), unquote(parts.password or ""))
            self._known.setdefault(_origin(url), pair)

    def find(self, url: str) -> tuple[str, str] | None:
        """The user name and password for `url`."""
        return self._known.get(_origin(url)) or self._from_netrc(url)

    def headers(self, url: str) -> dict[str, str]:
        """The Authorization header for `url` (RFC 7617), or nothing."""
        pair = self.find(url)
        if pair is None:
            return {}
        token = base64.b64encode(f"{pair[0]}:{pair[1]}".encode()).decode("ascii")
        return {"Authorization": f"Basic {token}"}

    def put_into(self, url: str) -> str:
        """The URL with its user name and password in it, for a program that takes them in no other way."""
        from urllib.parse import quote

        pair = self.find(url)
        if pair is None or "://" not in url:
            return url
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{quote(pair[0], safe='')}:{quote(pair[1], safe='')}@{rest}"

    def mask(self, text: str) -> str:
        """`text` fit to be shown: no userinfo in URLs, no known password, in any form."""
        return mask(text, [password for _, password in self._known.values() if len(password) > 3])

    def _from_netrc(self, url: str) -> tuple[str, str] | None:
        if self._netrc is None or not self._netrc.is_file():
            return None
        import netrc

        try:
            entry = netrc.netrc(os.fspath(self._netrc)).authenticators(urlsplit(url).hostname or "")
        except (OSError, netrc.NetrcParseError):
            return None
        return (entry[0] or "", entry[2] or "") if entry else None


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    scheme = parts.scheme.rpartition("+")[2]
    port = parts.port or {"http": 80, "https": 443}.get(scheme, 0)
    return scheme, f"{(parts.hostname or '').lower()}:{port}"
