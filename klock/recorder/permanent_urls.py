"""Which answers can be fetched again when upstream has moved on: those whose URL holds a version, a commit or a hash.

Indexes, redirects, errors and answers to POST tell of one moment; they can only be kept. So can Debian packages, as
mirrors remove them when a newer version is there. Nobody promises that other versioned files stay for ever, but their
URLs never name other bytes, and most archives serve them for years.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from klock.lockfile.model import LockedRequest
from klock.secrets.spans import MASK
from klock.values import dataclass

__all__ = ["PERMANENT_URLS", "PermanentUrl", "is_permanent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PermanentUrl:
    """URLs whose `host/path`, percent-decoded, is matched as a whole by a regular expression."""

    pattern: re.Pattern[str]
    reason: str


_ARCHIVE: Final = (
    r"[^/]*\.(?:tar|tar\.(?:gz|bz2|xz|zst|lz|lzma)|tgz|tbz2?|txz|zip|7z|whl|egg|jar|war|gem|crate|nupkg|conda"
    r"|rpm|apk|run|sh|exe|msi|AppImage)"
)
_VERSION: Final = r"\d[._]\d|(?:19|20)\d\d-?\d\d-?\d\d"
_MOMENT: Final = r"\d{8}T\d{6}Z"
_HASH: Final = r"[0-9a-f]{40}(?:[0-9a-f]{24})?"


def _urls(pattern: str, reason: str) -> PermanentUrl:
    return PermanentUrl(pattern=re.compile(rf"[^/]+/{pattern}"), reason=reason)


PERMANENT_URLS: Final = (
    _urls(rf"(?:.+/)?{_MOMENT}/.+", "an archive of packages as it was at one time"),
    _urls(
        r"packages/(?:[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/[^/]+|(?:source|py\d|py\d\.py\d|cp\d+|\d\.\d)/.+)",
        "a file of a Python distribution on PyPI, never replaced",
    ),
    _urls(rf"(?:.+/)?(?=[^/]*(?:{_VERSION}|-\d)){_ARCHIVE}(?:\.metadata)?", "a file whose name holds a version"),
    _urls(rf"(?:.+/)?[vV]?\d+\.\d[^/]*/(?:.+/)?{_ARCHIVE}", "a file in a folder that is a version"),
    _urls(r"(?:.+/)?archive/refs/tags/[^/]*\d[^/]*\.(?:zip|tar\.gz)", "the archive of a tag"),
    _urls(r".+/releases/download/[^/]*\d[^/]*/.+", "a file of a release"),
    _urls(r".+/(?P<name>[^/]+)/(?P<version>\d[^/]*)/(?P=name)-(?P=version)[^/]*", "a Maven artifact of one version"),
    _urls(r"(?:@[^/]+/)?[^/]+/-/(?:.+/)?(?=[^/]*-\d)[^/]*\.tgz", "an npm package of one version"),
    _urls(r".+/@v/v\d[^/]*\.(?:info|mod|zip)", "a Go module of one version"),
    _urls(r"(?:.+/)?objects/[0-9a-f]{2}/[0-9a-f]{38}(?:[0-9a-f]{24})?", "a git object by its hash"),
    _urls(r"v2/.+/(?:blobs|manifests)/sha256:[0-9a-f]{64}", "a part of an image by its digest"),
    _urls(rf"(?:.*[^0-9a-z])?{_HASH}(?:[^0-9a-z].*)?", "a path that holds a commit or a hash"),
)
"""The most frequent first."""

_MOVING: Final = re.compile(r"(?<![a-z])(?:latest|nightly|current|snapshot|head)(?![a-z])", re.IGNORECASE)
"""Words in a path that mark it as moving, such as `latest`, whatever else the path holds."""

_SUPERSEDED: Final = re.compile(rf"\A(?!.*/{_MOMENT}/).*(?:/by-hash/.*|\.[ud]?deb)\Z")
"""Debian: only snapshots are permanent; mirrors remove a package when there is a newer one."""


def is_permanent(request: LockedRequest) -> bool:
    """Whether upstream will still serve these bytes under this URL when it has moved on."""
    if request.method not in ("GET", "HEAD") or request.status != 200 or request.private:
        return False
    # A signature expires, and a URL that had several answers may have yet another.
    if MASK in request.url or request.body is not None or request.turn is not None or request.git_protocol is not None:
        return False
    parts = urlsplit(request.url)
    path = unquote(parts.path)
    if _MOVING.search(path) or _SUPERSEDED.fullmatch(path):
        return False
    return any(rule.pattern.fullmatch(parts.netloc + path) for rule in PERMANENT_URLS)
