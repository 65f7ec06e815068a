"""What uv and git may ask for while code of packages runs beside them: what the image names, and what that links to.

    an index        its pages, one for each project (PEP 503), and the files that these link to (PEP 691, PEP 658)
    a URL           that one; where it is a page of links, what it links to
    a repository    what git reads there, and other repositories of the same server: submodules
    a redirect      of any of these, to that one URL

A program that may choose neither a server nor a path can tell nobody what it has read. Names are not looked up either,
apart from those of these servers: a look-up tells the name servers of a domain what was asked for.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import field
from enum import Enum
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import unquote, urljoin, urlsplit

from klock.recorder.doors import where_of
from klock.recorder.exchange import Request
from klock.values import dataclass

__all__ = ["OUTSIDE", "Guard", "Links", "Reach", "Role"]

OUTSIDE: Final = "it is neither named in the image nor linked to by its indexes"

_HREF: Final = re.compile(r"\bhref\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.IGNORECASE)
_BASE: Final = re.compile(r"<base\s+href\s*=\s*[\"']?([^\"'\s>]+)", re.IGNORECASE)
_HASH: Final = re.compile(r"(?:^|&)sha256=([0-9a-f]{64})(?:&|$)")
_BELOW: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/){0,2}(?:[A-Za-z0-9][A-Za-z0-9._-]*)?")
_METADATA: Final = ".metadata"
_GIT_REFS: Final = "/info/refs?service=git-upload-pack"
_GIT_PACK: Final = "/git-upload-pack"
_GIT_FILES: Final = re.compile(r"/(?:HEAD|info/refs|objects/(?:info/[a-z-]+|[0-9a-f]{2}/[0-9a-f]+|pack/[0-9a-z.-]+))")
_LFS: Final = "/info/lfs/objects/batch"
_GITHUB: Final = re.compile(r"https://github\.com:443/([^/]+/[^/]+)")
_GITHUB_FILES: Final = ("https://api.github.com:443/repos/{}/commits/", "https://raw.githubusercontent.com:443/{}/")
"""Where uv asks which commit a branch is at, and what a project there needs."""


class Role(Enum):
    """Why something may be asked for."""

    PAGE = "a page of links"
    FILE = "a file"
    GIT = "a repository"
    LFS = "where a repository's large files are"


@dataclass(slots=True)
class Links:
    """URLs that pages link to, as digests with and without their hashes, and the hosts of these."""

    known: set[bytes] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)

    def add(self, url: str, sha256: str = "") -> None:
        where, bare = where_of(url), _bare(url)
        if where is not None and bare is not None:
            self.hosts.add(where[0])
            self.known.update((_digest(bare), _digest(f"{bare}#{sha256}")))

    def merge(self, other: Links) -> None:
        self.known |= other.known
        self.hosts |= other.hosts

    def __contains__(self, url: str) -> bool:
        bare = _bare(url)
        return bare is not None and _digest(bare) in self.known

    def has_file(self, url: str, sha256: str | None) -> bool:
        """Whether a page links to this file, with this hash or with none."""
        bare = _bare(url)
        return bare is not None and any(_digest(f"{bare}#{end}") in self.known for end in (sha256 or "", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """`indexes` have a page for each project below their URL; `pages` are pages of links; `files`, `repositories` and
    those are URLs as the image has them. `links` are known already, and grow."""

    indexes: frozenset[str] = frozenset()
    pages: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    repositories: frozenset[str] = frozenset()
    links: Links = field(default_factory=Links)


class Guard:
    """Says what may be asked for, and learns from the answers. Any thread may ask."""

    def __init__(self, reach: Reach) -> None:
        self.links = reach.links
        self._indexes = [f"{bare.rstrip('/')}/" for bare in map(_bare, reach.indexes) if bare]
        self._pages = {bare for bare in map(_bare, reach.pages) if bare}
        self._files = {bare for bare in map(_bare, reach.files) if bare}
        self._repositories = {bare.rstrip("/").removesuffix(".git") for bare in map(_bare, reach.repositories) if bare}
        self._git_servers = {where for url in reach.repositories if (where := where_of(url))}
        named = (*reach.indexes, *reach.pages, *reach.files, *reach.repositories)
        self._hosts = {where[0] for url in named if (where := where_of(url))}
        names = [match[1] for match in map(_GITHUB.match, self._repositories) if match]
        self._prefixes = tuple(form.format(name) for form in _GITHUB_FILES for name in names)
        self._hosts |= {where[0] for prefix in self._prefixes if (where := where_of(prefix))}

    def has_host(self, name: str) -> bool:
        return name in self._hosts or name in self.links.hosts

    def role_of(self, request: Request) -> Role | None:
        """None for what may not be asked for."""
        bare = _bare(request.url)
        if bare is None:
            return None
        if request.is_safe:
            if bare in self._files or bare in self.links or bare.removesuffix(_METADATA) in self.links:
                return Role.FILE
            if bare in self._pages or any(_is_below(bare, index) for index in self._indexes):
                return Role.PAGE
            if bare.startswith(self._prefixes):
                return Role.FILE
        if where_of(request.url) in self._git_servers and (
            (request.is_safe and bare.endswith(_GIT_REFS)) or (request.method == "POST" and bare.endswith(_GIT_PACK))
        ):
            return Role.GIT
        rests = [bare.removeprefix(r).removeprefix(".git") for r in self._repositories if bare.startswith(r)]
        if request.is_safe and any(map(_GIT_FILES.fullmatch, rests)):
            return Role.GIT
        return Role.LFS if request.method == "POST" and _LFS in rests else None

    def learn_redirect(self, request: Request, role: Role, location: str) -> None:
        """Takes up where an answer leads to: `location` is its header, which may be anything."""
        try:
            url = urljoin(request.url, location)
        except ValueError:
            return
        bare, where = _bare(url), where_of(url)
        if bare is None or where is None:
            return
        self._hosts.add(where[0])
        if role is Role.GIT:
            self._repositories.add(bare.removesuffix(_GIT_REFS).removesuffix(_GIT_PACK).removesuffix(".git"))
            self._git_servers.add(where)
        else:
            (self._pages if role is Role.PAGE else self._files).add(bare)

    def learn_page(self, url: str, media_type: str, text: str) -> None:
        """Takes up what a page links to: PEP 503 or PEP 691, by its media type, or an answer of git LFS."""
        for link, sha256 in _links_of_json(text) if "json" in media_type.lower() else _links_of_html(text):
            with contextlib.suppress(ValueError):  # no URL at all
                self.links.add(urljoin(url, link), sha256)


def _is_below(bare: str, index: str) -> bool:
    rest = bare.removeprefix(index) if bare.startswith(index) else None
    return f"{bare}/" == index or (rest is not None and _BELOW.fullmatch(rest) is not None)


def _bare(url: str) -> str | None:
    """The URL in one spelling: without user name, password and fragment, with its port, its path unquoted."""
    try:
        parts = urlsplit(url)
        where = where_of(url)
    except ValueError:
        return None
    if where is None:
        return None
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme.lower()}://{where[0]}:{where[1]}{unquote(parts.path) or '/'}{query}"


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _links_of_json(text: str) -> Iterable[tuple[str, str]]:
    try:
        page: Any = json.loads(text)
    except (ValueError, RecursionError):
        return
    for file in _listed(page, "files"):
        hashes = file.get("hashes")
        sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
        yield str(file.get("url", "")), str(sha256 or "")
    for thing in _listed(page, "objects"):
        actions = thing.get("actions")
        download = actions.get("download") if isinstance(actions, dict) else None
        if isinstance(download, dict):
            yield str(download.get("href", "")), ""


def _listed(page: Any, name: str) -> list[dict[str, Any]]:
    found = page.get(name) if isinstance(page, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _links_of_html(text: str) -> Iterable[tuple[str, str]]:
    from html import unescape

    base = _BASE.search(text)
    for match in _HREF.finditer(text):
        link, _, fragment = unescape(match[1] or match[2] or match[3] or "").strip().partition("#")
        found = _HASH.search(fragment)
        with contextlib.suppress(ValueError):
            yield urljoin(unescape(base[1]), link) if base else link, found[1] if found else ""
