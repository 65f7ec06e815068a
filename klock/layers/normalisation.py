"""What klock leaves out of every layer or makes equal, and why: short lists, as data, shown to users in docs/layers.md.

Two runs of one command must give one layer. What differs between them without a meaning (logs, caches, times) is left
out; what a command needs to be told so that it does not differ is in STEP_ENVIRONMENT. Every change of a list changes
the digests of layers, so it comes with a new NORMALISATION, which lockfiles record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

__all__ = ["EMPTIED", "LEFT_OUT", "MTIME", "NORMALISATION", "STEP_ENVIRONMENT", "Rule", "is_emptied", "is_left_out"]

NORMALISATION: Final = 1
"""The version of everything in this module."""

MTIME: Final = 946684800
"""The modification time of every path in a layer, in seconds: 2000-01-01T00:00:00Z. (ZIP files start at 1980.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Paths relative to the root: `*` and `?` stop at a slash, `**` crosses it. `reason` says why they are listed."""

    pattern: str
    reason: str


LEFT_OUT: Final = (
    Rule(pattern="dev/**", reason="the engine provides /dev"),
    Rule(pattern="proc/**", reason="the kernel provides /proc"),
    Rule(pattern="sys/**", reason="the kernel provides /sys"),
    Rule(pattern="run/**", reason="/run is empty at every start"),
    Rule(pattern="tmp/**", reason="/tmp is empty at every start"),
    Rule(pattern="var/tmp/**", reason="temporary files"),
    Rule(pattern="var/log/dpkg.log", reason="a log with times"),
    Rule(pattern="var/log/alternatives.log", reason="a log with times"),
    Rule(pattern="var/log/bootstrap.log", reason="a log with times"),
    Rule(pattern="var/log/apt/**", reason="logs with times"),
    Rule(pattern="var/log/journal/**", reason="logs with times"),
    Rule(pattern="var/log/lastlog", reason="times of logins"),
    Rule(pattern="var/log/faillog", reason="times of logins"),
    Rule(pattern="var/cache/apt/*.bin", reason="apt's index of its lists, made again when missing; it holds times"),
    Rule(pattern="var/cache/apt/archives/**", reason="downloaded packages"),
    Rule(pattern="var/cache/debconf/*-old", reason="a backup of the state before the last change"),
    Rule(pattern="var/lib/dpkg/*-old", reason="a backup of the state before the last change"),
    Rule(pattern="var/cache/ldconfig/aux-cache", reason="ldconfig's cache of inode numbers and times"),
    Rule(pattern="var/cache/man/**", reason="man's index of pages, made again when missing; it holds times"),
    Rule(pattern="root/.cache/pip/**", reason="pip's downloads"),
    Rule(pattern="root/.cache/uv/**", reason="uv's downloads"),
    Rule(pattern="root/.npm/**", reason="npm's downloads and logs"),
    Rule(pattern="home/*/.cache/pip/**", reason="pip's downloads"),
    Rule(pattern="home/*/.cache/uv/**", reason="uv's downloads"),
    Rule(pattern="home/*/.npm/**", reason="npm's downloads and logs"),
)

EMPTIED: Final = (
    Rule(pattern="etc/machine-id", reason="a random number that every machine must make for itself"),
    Rule(pattern="var/lib/dbus/machine-id", reason="a random number that every machine must make for itself"),
)

STEP_ENVIRONMENT: Final[Mapping[str, str]] = {
    # Hash-based .pyc files, a stable /etc/shadow, stable font caches, wheels that can be built twice.
    "SOURCE_DATE_EPOCH": str(MTIME),
    "PYTHONHASHSEED": "0",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "UV_NO_CACHE": "1",
    # uv_cache.json would hold a time.
    "UV_NO_INSTALLER_METADATA": "1",
    "DEBIAN_FRONTEND": "noninteractive",
    "npm_config_cache": "/tmp/npm",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_update_notifier": "false",
    # git writes a time into reflogs and commits.
    "GIT_AUTHOR_DATE": f"@{MTIME} +0000",
    "GIT_COMMITTER_DATE": f"@{MTIME} +0000",
}
"""Variables set while the steps of an image run, under those the image sets. They are never part of the environment."""


def is_left_out(path: str) -> bool:
    """Whether a path (relative to the root) is never part of a layer nor of an observation."""
    return _any_of(LEFT_OUT).fullmatch(path) is not None


def is_emptied(path: str) -> bool:
    """Whether a file at this path (relative to the root) is kept without its content."""
    return _any_of(EMPTIED).fullmatch(path) is not None


@cache
def _any_of(rules: tuple[Rule, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_expression(rule.pattern) for rule in rules), re.DOTALL)


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    special = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(special.get(part) or re.escape(part) for part in parts)
