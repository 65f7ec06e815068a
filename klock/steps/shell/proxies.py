"""The proxies that an image names: for its own network, which a recorded step does not have.

A step's programs find them in variables, in the command, and in their files of settings. They lead to the recorder,
which takes requests as a proxy does, and answers each for the server that it asks for. So nothing that is locked
depends on a proxy, and upstream is reached through klock's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from klock.recorder.doors import Where
from klock.workshop.protocol import Workspace

__all__ = ["proxies_in", "proxies_of"]

_SETTINGS: Final = (
    "/etc/apt/apt.conf",
    "/etc/apt/apt.conf.d/*",
    "/etc/environment",
    "/etc/pip.conf",
    "/etc/xdg/pip/pip.conf",
    "/etc/gitconfig",
    "/etc/npmrc",
    "/usr/etc/npmrc",
    "/usr/local/etc/npmrc",
    "/etc/wgetrc",
    "/etc/yum.conf",
    "/etc/dnf/dnf.conf",
)
_OWN_SETTINGS: Final = (
    *(".pip/pip.conf", ".config/pip/pip.conf", ".gitconfig", ".config/git/config", ".npmrc", ".yarnrc"),
    *(".wgetrc", ".curlrc", ".condarc", ".mambarc", ".cargo/config.toml", ".cargo/config"),
)
_VARIABLE: Final = re.compile(r".*(?<!no)_proxy|proxy", re.IGNORECASE)
_PROXY: Final = re.compile(
    # The word, as it ends an option or a name; what stands between it and its value.
    r"(?:proxy(?:::[A-Za-z0-9_.-]+)?|(?<=\s)-x|\bhttps?(?=\s*:\s))[\s\"'=:]{1,8}"
    r"(?:(?P<scheme>https?)://)?(?:[^\s@/\"']*@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::(?P<port>[0-9]{1,5}))?(?![a-z0-9_.:-])",
    re.IGNORECASE,
)
_PORTS: Final = {"http": 80, "https": 443}


def proxies_of(workspace: Workspace, *, command: str, variables: Mapping[str, str]) -> frozenset[Where]:
    """Those that a command and its variables name, and the settings of programs that are in the environment."""
    homes = {variables.get("HOME") or "/root", "/root", "/home/*"}
    patterns = [*_SETTINGS, *(f"{home}/{name}" for home in sorted(homes) for name in _OWN_SETTINGS)]
    settings = workspace.read_matching(patterns).values()
    named = (f"proxy={value}" for name, value in variables.items() if _VARIABLE.fullmatch(name))
    return proxies_in([command, *named, *(content.decode("utf-8", "replace") for content in settings)])


def proxies_in(texts: Iterable[str]) -> frozenset[Where]:
    """The hosts and ports that texts name as a proxy: `proxy = http://host:3128`, `--proxy host:3128`."""
    found = set()
    for text in texts:
        for match in _PROXY.finditer(text):
            port = int(match["port"] or _PORTS.get((match["scheme"] or "").lower(), 0))
            if 0 < port < 65536:
                found.add((match["host"].strip("[]").lower(), port))
    return frozenset(found)
