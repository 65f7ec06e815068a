"""Who klock is to an index: user names and passwords by origin, and their removal from all that is kept or shown.

They come from index URLs (`https://user:password@host/simple`), from `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD`, and
from netrc, as with uv and pip. An object of this module is never written anywhere, and goes into no sandbox.

Where `UV_KEYRING_PROVIDER` is set, the user's keyring is asked for the servers that the user names, and no other ones.

netrc names hosts, and no origins. What is fetched may be named by an index, or by what a package runs: so the entry of
a host is for https and for the origins that the user names, and the default entry for those alone.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from klock.packages.index_mirrors import IndexMirrors
from klock.recorder.doors import Where, elsewhere, where_of
from klock.secrets.masking import mask
from klock.secrets.references import refuse_literals

if TYPE_CHECKING:
    from klock.packages.keyring import Keyring

__all__ = ["Credentials", "bare_text", "netrc_of", "public_url", "without_credentials"]

_PUBLIC: Final = "https://pypi.org/simple"
"""Nobody logs in there: no keyring need be unlocked for it."""
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>\\]+")
_USERINFO: Final = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*(?<!ssh)://)[^/\s?#]*@")


def bare_text(text: str) -> str:
    """A requirement, or any other text, whose URLs are without user name and password."""
    return _USERINFO.sub(lambda match: match["scheme"], text)


def without_credentials(url: str) -> str:
    """The URL without user name and password. The `git@` of an SSH URL stays: it is not a secret."""
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


def netrc_of(environ: Mapping[str, str]) -> Path | None:
    """The netrc file that curl, git, pip and uv would read."""
    path = Path(environ["NETRC"]) if environ.get("NETRC") else Path(environ.get("HOME") or "/") / ".netrc"
    return path if path.is_file() else None


class Credentials:
    """User name and password for each origin (scheme, host, port).

    `ca_bundle`: a PEM file with certificates that are trusted besides the host's when they are used. `mirrors` say
    where to go instead.
    """

    def __init__(
        self,
        *,
        netrc: Path | None = None,
        ca_bundle: Path | None = None,
        mirrors: IndexMirrors | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        self._named: set[Where] = set()
        self._indexes: dict[tuple[str, str], list[str]] = {}
        self._netrc = netrc
        self._keyring = keyring
        self.ca_bundle = ca_bundle
        self.mirrors = mirrors or IndexMirrors()
        for _, mirror in self.mirrors.table:
            self.learn(mirror.with_credentials)

    @classmethod
    def collect(
        cls,
        *,
        environments: Iterable[Mapping[str, str]] = (),
        base: Mapping[str, str] | None = None,
        urls: Iterable[str] = (),
        names: Mapping[str, str] | None = None,
        host: Mapping[str, str] | None = None,
        netrc: Path | None = None,
        ca_bundle: Path | None = None,
        mirrors: IndexMirrors | None = None,
    ) -> Credentials:
        """Those in any URL of `environments` (what steers uv and pip) and `urls`; netrc answers for the rest.

        `host` are klock's own variables: UV_INDEX_<NAME>_USERNAME and _PASSWORD count there too, for the indexes that
        the image names, by a variable or in `names`.

        What `base`, the base image, has in its variables is none of the user's words: nothing there names a server on
        this machine.
        """
        base = base or {}
        found = cls(netrc=netrc, ca_bundle=ca_bundle, mirrors=mirrors, keyring=_keyring_of(host or {}))
        for environment in environments:
            called = {_as_in_variables(name): url for name, url in (names or {}).items()}
            for name, value in environment.items():
                if not name.startswith(("UV_", "PIP_")):
                    continue
                for part in value.replace(",", " ").split() if name == "UV_FIND_LINKS" else value.split():
                    index, equals, url = part.partition("=")
                    if equals and re.fullmatch(r"[A-Za-z0-9._-]+", index) and "://" in url:
                        called[_as_in_variables(index)] = url
                        part = url
                    found.learn(part, is_bases=base.get(name) == value)
            for index, url in called.items():
                known = {**(host or {}), **environment}
                user, password = (known.get(f"UV_INDEX_{index}_{part}") for part in ("USERNAME", "PASSWORD"))
                if user or password:
                    found._known.setdefault(_origin(url), (user or "", password or ""))
        for url in urls:
            found.learn(url)
        return found

    def learn(self, text: str, *, is_bases: bool = False) -> None:
        """Keeps the credentials of the URLs in a word, and that the user named them, or the base. The first for an
        origin wins."""
        for url in _URL.findall(text):
            url = re.sub(r"^[a-z]+\+", "", url)
            where = where_of(url)
            if where is not None:
                self._named |= elsewhere([where]) if is_bases else {where}
            if not is_bases and url.lower().startswith(("http:", "https:")):
                self._indexes.setdefault(_origin(url), []).append(without_credentials(url).partition("#")[0])
            parts = urlsplit(url)
            if parts.username is not None:
                pair = (unquote(parts.username), unquote(parts.password or ""))
                self._known.setdefault(_origin(url), pair)

    @property
    def named(self) -> frozenset[Where]:
        """The servers of all URLs that the user names: they may be on this machine. And the addresses of the base's."""
        return frozenset(self._named)

    @property
    def passwords(self) -> tuple[str, ...]:
        """All of them, those that the keyring has for the servers that the user names among them."""
        for urls in self._indexes.values():
            self.find(urls[0])
        return tuple(dict.fromkeys(password for _, password in self._known.values() if password))

    def find(self, url: str) -> tuple[str, str] | None:
        """The user name and password for `url`. Raises FetchError when the keyring is to be asked and cannot be."""
        known = self._known.get(_origin(url))
        if known is not None and known[1]:
            return known
        if known is None and (found := self._from_netrc(url)) is not None:
            return found
        return self._from_keyring(url, known[0] if known else None) or known

    def _from_keyring(self, url: str, username: str | None) -> tuple[str, str] | None:
        """By the URLs of this origin that the user names: `url` itself may be one that a package made up."""
        if self._keyring is None:
            return None
        for index in dict.fromkeys(self._indexes.get(_origin(url), ())):
            if index.rstrip("/") != _PUBLIC and (pair := self._keyring.find(index, username)) is not None:
                # From here on it is masked, too.
                self._known[_origin(url)] = pair
                return pair
        return None

    def headers(self, url: str) -> dict[str, str]:
        """The Authorization header for `url` (RFC 7617), or nothing."""
        pair = self.find(url)
        if pair is None:
            return {}
        token = base64.b64encode(f"{pair[0]}:{pair[1]}".encode()).decode("ascii")
        return {"Authorization": f"Basic {token}"}

    def mask(self, text: str) -> str:
        """`text` fit to be shown: no userinfo in URLs, no known password, in any form."""
        return mask(text, [password for _, password in self._known.values() if len(password) > 3])

    def _from_netrc(self, url: str) -> tuple[str, str] | None:
        if self._netrc is None or not self._netrc.is_file():
            return None
        import netrc

        where = where_of(url)
        try:
            hosts = netrc.netrc(os.fspath(self._netrc)).hosts
        except (OSError, netrc.NetrcParseError):
            return None
        if where is None:
            return None
        is_named = where in self._named
        entry = hosts.get(where[0]) if is_named or url.lower().startswith("https:") else None
        if entry is None and is_named:
            entry = hosts.get("default")
        return (entry[0] or "", entry[2] or "") if entry else None


def _as_in_variables(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _keyring_of(environ: Mapping[str, str]) -> Keyring | None:
    if not environ.get("UV_KEYRING_PROVIDER"):
        return None
    from klock.packages.keyring import Keyring

    return Keyring.of(environ)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    scheme = parts.scheme.rpartition("+")[2]
    port = parts.port or {"http": 80, "https": 443}.get(scheme, 0)
    return scheme, f"{(parts.hostname or '').lower()}:{port}"
