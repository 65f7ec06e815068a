"""What programs wrote and a sync leaves as it is, but could change what the environment runs: short, as data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from klock.layers.normalisation import Rule, matcher

__all__ = ["could_change_what_runs"]

RUNS: Final = (
    Rule(pattern="/**/*-packages/*.pth", reason="Python runs its lines that begin with import"),
    Rule(pattern="/**/sitecustomize.py", reason="Python runs it when it starts"),
    Rule(pattern="/**/usercustomize.py", reason="Python runs it when it starts"),
    Rule(pattern="/**/pyvenv.cfg", reason="it says which Python a folder belongs to"),
    Rule(pattern="/etc/ld.so.preload", reason="every program loads what it names"),
    Rule(pattern="/etc/ld.so.conf.d/*", reason="it says where programs find libraries"),
    Rule(pattern="/etc/profile.d/*", reason="login shells run it"),
    Rule(pattern="/etc/environment", reason="logins take variables from it"),
    Rule(pattern="/etc/bash.bashrc", reason="bash runs it when it starts"),
    Rule(pattern="/root/.bash*", reason="bash runs it when it starts"),
    Rule(pattern="/root/.profile", reason="login shells run it"),
    Rule(pattern="/etc/pip.conf", reason="it says where pip installs from"),
    Rule(pattern="/root/.config/pip/*", reason="it says where pip installs from"),
    Rule(pattern="/etc/apt/**", reason="it says where apt installs from, and what apt runs"),
    Rule(pattern="/etc/cron*/**", reason="cron runs it"),
    Rule(pattern="/usr/local/bin/*", reason="commands of that name run it"),
    Rule(pattern="/usr/local/sbin/*", reason="commands of that name run it"),
    Rule(pattern="/usr/bin/*", reason="commands of that name run it"),
    Rule(pattern="/usr/sbin/*", reason="commands of that name run it"),
)
"""Absolute paths. The first rule that names a path counts."""

_MATCHERS: Final = tuple((matcher([rule.pattern]), rule.reason) for rule in RUNS)
_BYTECODE: Final = re.compile(r"(?:^|/)__pycache__/")


def could_change_what_runs(paths: Iterable[str]) -> list[str]:
    """Of paths relative to the root, those that a rule names, sorted, each with the reason."""
    found = []
    for path in sorted(paths):
        reason = next((reason for names, reason in _MATCHERS if names(path)), None)
        if reason is not None and not _BYTECODE.search(path):
            found.append(f"/{path}: {reason}")
    return found
