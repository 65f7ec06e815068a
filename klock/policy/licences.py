"""Licences as SPDX has them (SPDX 2.3, annex D), and what metadata from before PEP 639 says instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

__all__ = ["canonical", "is_allowed", "licence_said"]

_CLASSIFIERS: Final = {
    "Academic Free License (AFL)": "AFL-3.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PostgreSQL License": "PostgreSQL",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}
"""The last words of trove classifiers that leave no doubt, or whose usual meaning is this: BSD and Apache have several
versions, and the classifier none."""
_WORDS: Final = {
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "mit license": "MIT",
    "mpl 2.0": "MPL-2.0",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "psf": "PSF-2.0",
    "the mit license": "MIT",
}
_TOKEN: Final = re.compile(r"\(|\)|[^\s()]+")
_MOST: Final = 1000
"""Characters of an expression."""


def canonical(text: str) -> str | None:
    """An SPDX expression in its usual spelling; None for what is none."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if len(text) > _MOST:
        return None
    try:
        return str(canonicalize_license_expression(text))
    except (InvalidLicenseExpression, RecursionError):
        return None


def licence_said(expression: str | None, field: str | None, classifiers: Iterable[str]) -> str | None:
    """The SPDX expression of a package by its metadata: `License-Expression`, else the classifiers, else `License`.

    None where it says none that can be told. Several classifiers stand for all of them together.
    """
    if expression:
        return canonical(expression)
    last = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    last = [each for each in last if each != "OSI Approved"]
    if last:
        found = [_CLASSIFIERS.get(each) for each in last]
        return None if None in found else " AND ".join(sorted({each for each in found if each is not None}))
    words = " ".join((field or "").split())
    return (_WORDS.get(words.lower().rstrip(".")) or canonical(words)) if words and len(words) < 100 else None


def is_allowed(expression: str, allowed: Collection[str]) -> bool:
    """Whether a canonical expression can be kept with `allowed` alone: one side of an OR is enough, of an AND both must
    be. A licence with an exception is allowed by itself, or by the licence without it."""
    if expression in allowed:
        return True
    parsed = _Expression(_TOKEN.findall(expression), allowed)
    return parsed.alternatives() and parsed.is_at_end


class _Expression:
    """A descent over the tokens: OR binds loosest, then AND, then WITH."""

    def __init__(self, tokens: list[str], allowed: Collection[str]) -> None:
        self._tokens = tokens
        self._allowed = allowed
        self._next = 0

    @property
    def is_at_end(self) -> bool:
        return self._next == len(self._tokens)

    def alternatives(self) -> bool:
        found = self._all()
        while self._takes("OR"):
            found = self._all() or found
        return found

    def _all(self) -> bool:
        found = self._one()
        while self._takes("AND"):
            found = self._one() and found
        return found

    def _one(self) -> bool:
        if self._takes("("):
            found = self.alternatives()
            return self._takes(")") and found
        if self.is_at_end:
            return False
        name = self._tokens[self._next]
        self._next += 1
        if self._takes("WITH") and not self.is_at_end:
            exception = self._tokens[self._next]
            self._next += 1
            return f"{name} WITH {exception}" in self._allowed or name in self._allowed
        return name in self._allowed

    def _takes(self, token: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next] == token:
            self._next += 1
            return True
        return False
