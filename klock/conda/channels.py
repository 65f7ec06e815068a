"""Channels: a name or a URL, and for each platform a folder with a list of packages (`repodata.json`)."""

from __future__ import annotations

import re
from typing import Final

from klock.errors import ImageError
from klock.targets import Target

__all__ = ["LISTS", "channel_urls", "resolved_spec", "subdirs"]

LISTS: Final = ("repodata.json.zst", "repodata.json")
"""The names of the list of packages, the smaller one first (CEP 16 has yet another form, which is not read)."""

_ALIAS: Final = "https://conda.anaconda.org"
_DEFAULTS: Final = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._/-]*)?")
_SUBDIRS: Final = {"amd64": "linux-64", "arm64": "linux-aarch64"}
_SUBDIR: Final = re.compile(r"/(?:linux-\w+|noarch)/?$")
_CHANNEL_OF_SPEC: Final = (
    re.compile(r"(?P<before>\s*)(?P<channel>\S+?)(?P<after>(?:/(?:linux-\w+|noarch))?::.*)"),
    re.compile(
        r"(?P<before>.*[\[,]\s*channel\s*=\s*(?P<quote>['\"]?))(?P<channel>[^'\",\]]+?)"
        r"(?P<after>(?:/(?:linux-\w+|noarch))?(?P=quote)\s*[,\]].*)"
    ),
)
_ARCHIVE: Final = re.compile(
    r"\s*(?P<channel>https?://\S+)/(?:linux-\w+|noarch)/[^/\s]+\.(?:conda|tar\.bz2)(?:#\S*)?\s*"
)


def channel_urls(channel: str, *, alias: str = "") -> tuple[str, ...]:
    """Where a channel is: `conda-forge`, `defaults`, `pytorch/label/x`, a URL. `alias` is conda's `channel_alias`.

    Raises ImageError.
    """
    channel = _SUBDIR.sub("", channel)
    if channel == "defaults":
        return _DEFAULTS
    if re.match(r"https?://", channel):
        return (channel.rstrip("/"),)
    if not _NAME.fullmatch(channel):
        raise ImageError(f"{channel!r} is not a channel", hint='write its name or its URL: "conda-forge"')
    return (f"{(alias or _ALIAS).rstrip('/')}/{channel}",)


def resolved_spec(spec: str, *, alias: str = "") -> tuple[str, str | None]:
    """A match specification with the URL of the channel that it names, and that URL; None if it names none.

    It names one as in `pytorch::pytorch`, `numpy[channel=main]` or by an archive's whole URL. Raises ImageError.
    """
    if match := _ARCHIVE.fullmatch(spec):
        return spec, match["channel"]
    for pattern in _CHANNEL_OF_SPEC:
        if match := pattern.fullmatch(spec):
            url = channel_urls(match["channel"].strip(), alias=alias)[0]
            return f"{match['before']}{url}{match['after']}", url
    return spec, None


def subdirs(target: Target) -> tuple[str, str]:
    """The folders of a channel that a target's packages are in."""
    return _SUBDIRS[target.architecture], "noarch"
