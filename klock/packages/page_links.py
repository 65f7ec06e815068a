"""The links of an index's page in HTML (PEP 503, PEP 592)."""

from __future__ import annotations

import contextlib
from html.parser import HTMLParser

__all__ = ["PageLinks"]


class PageLinks(HTMLParser):
    """`links` are the addresses as written, each with the reason why it is yanked; `base` is what they start from."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[tuple[str, str | None]] = []
        self.base = ""
        # It has assertions of its own about what a page may be.
        with contextlib.suppress(AssertionError, ValueError):
            self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a" and found.get("href"):
            yanked = (found["data-yanked"] or "") if "data-yanked" in found else None
            self.links.append((found["href"] or "", yanked))
        if tag == "base" and found.get("href"):
            self.base = found["href"] or ""
