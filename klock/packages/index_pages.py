"""Asks an index, or a page of links, whether it has a project. Nothing else is read from it: uv does the resolving."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from packaging.utils import canonicalize_name

from klock.errors import FetchError
from klock.packages.credentials import Credentials
from klock.packages.indexes import Index

__all__ = ["IndexPages"]


class IndexPages:
    """Answers `offers(index, project)`, asking for each page once. `list_folder` lists a folder of the environment."""

    def __init__(
        self, *, credentials: Credentials, list_folder: Callable[[str], list[str]], offline: bool = False
    ) -> None:
        self._credentials = credentials
        self._list_folder = list_folder
        self._offline = offline
        self._answers: dict[tuple[Index, str], bool] = {}

    def offers(self, index: Index, project: str) -> bool:
        """Raises FetchError when the index cannot be asked or wants other credentials."""
        key = (index, project)
        if key not in self._answers:
            self._answers[key] = self._ask(index, project)
        return self._answers[key]

    def _ask(self, index: Index, project: str) -> bool:
        if index.flat:
            if urlsplit(index.url).scheme in ("http", "https"):
                return project in _projects_of(_links(self._get(index.url) or ""))
            return project in _projects_of(self._list_folder(index.url.removeprefix("file://")))
        return self._get(f"{index.url.rstrip('/')}/{project}/") is not None

    def _get(self, url: str) -> str | None:
        if self._offline:
            raise FetchError(f"cannot read {url}: klock is offline")
        import urllib3

        from klock.packages.fetch import request

        try:
            headers = {
                "Accept": "application/vnd.pypi.simple.v1+html, text/html;q=0.9",
                **self._credentials.headers(url),
            }
            answer = request(url, headers=headers, ca_bundle=self._credentials.ca_bundle)
        except urllib3.exceptions.HTTPError as error:
            reason = self._credentials.mask(str(getattr(error, "reason", None) or error))
            raise FetchError(
                f"the index page {url} cannot be read: {reason}", hint="check the URL and the network"
            ) from None
        if answer.status in (403, 404, 410):
            return None
        if answer.status != 200:
            hint = "give its user name and password in the URL, by netrc or in UV_INDEX_<NAME>_USERNAME and _PASSWORD"
            raise FetchError(
                f"the index page {url} answers with status {answer.status}", hint=hint if answer.status == 401 else None
            )
        return answer.data.decode("utf-8", "replace")


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def _links(page: str) -> list[str]:
    parser = _Anchors()
    # It has assertions of its own about what a page may be.
    with contextlib.suppress(AssertionError, ValueError):
        parser.feed(page)
    names = []
    for link in parser.links:
        with contextlib.suppress(ValueError):  # no URL at all
            names.append(unquote(urlsplit(urljoin("http://page/", link)).path.rpartition("/")[2]))
    return names


def _projects_of(file_names: list[str]) -> set[str]:
    """Normalised project names of wheel and sdist file names."""
    found: set[str] = set()
    for name in file_names:
        if name.endswith(".whl"):
            found.add(canonicalize_name(name.split("-", 1)[0]))
        elif match := re.fullmatch(r"(.+)-[^-]+\.(tar\.gz|zip|tar\.bz2|tgz)", name):
            found.add(canonicalize_name(match[1]))
    return found
