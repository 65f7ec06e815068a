"""Where bytes of an index come from instead: pages and files of a mirror, in place of those that the lockfile names.

A mirror changes no URL and no hash in the lockfile. What begins with a URL of the table is asked for at the mirror, at
the same path below it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from klock.errors import KlockError
from klock.patterns import regex
from klock.secrets.masking import mask
from klock.secrets.userinfo import PrivateUrl
from klock.values import dataclass

__all__ = ["VARIABLE", "IndexMirrors"]

VARIABLE: Final = "KLOCK_INDEX_MIRRORS"
_URL: Final = regex(r"https?://[^\s=]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexMirrors:
    """`table` has URLs without a slash at the end, and where to ask instead of each; the longest comes first."""

    table: tuple[tuple[str, PrivateUrl], ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, str], environ: Mapping[str, str]) -> IndexMirrors:
        """Those of the setting `index-mirrors`, and before them those of KLOCK_INDEX_MIRRORS: words `URL=MIRROR`.
        Raises KlockError."""
        found = {url.rstrip("/"): PrivateUrl.parse(mirror.rstrip("/")) for url, mirror in settings.items()}
        for word in environ.get(VARIABLE, "").split():
            url, equals, mirror = word.partition("=")
            if not equals or not _URL.fullmatch(url) or "@" in url or not re.match(r"https?://[^/]", mirror):
                raise KlockError(
                    f"{VARIABLE} has {mask(word)!r} in it, which is not URL=MIRROR",
                    hint=f"write for example {VARIABLE}=https://pypi.org/simple=https://mirror.example/simple",
                )
            found[url.rstrip("/")] = PrivateUrl.parse(mirror.rstrip("/"))
        return cls(table=tuple(sorted(found.items(), key=lambda pair: -len(pair[0]))))

    def towards(self, url: str) -> str:
        """Where to ask for `url`: at a mirror, or there."""
        for original, mirror in self.table:
            if url == original or url.startswith(f"{original}/"):
                return mirror.url + url[len(original) :]
        return url

    def back(self, url: str) -> str:
        """The URL that `towards` leads to `url` from, or `url` itself."""
        for original, mirror in sorted(self.table, key=lambda pair: -len(pair[1].url)):
            if url == mirror.url or url.startswith(f"{mirror.url}/"):
                return original + url[len(mirror.url) :]
        return url
