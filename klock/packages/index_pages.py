"""Reads an index's page of a project (PEP 503, PEP 691), or a page of links: which files there are, and which of them
are yanked (PEP 592). uv does the resolving; this is for what uv does not say.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from packaging.utils import canonicalize_name

from klock.asking import Answer, Asker
from klock.errors import FetchError
from klock.packages.credentials import Credentials
from klock.packages.indexes import Index
from klock.packages.selection import file_name_of
from klock.values import dataclass

__all__ = ["IndexPages", "PageFile"]

_JSON: Final = "application/vnd.pypi.simple.v1+json"
_ACCEPT: Final = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.5, text/html;q=0.1"
_LOG_IN: Final = "give its user name and password in the URL, by netrc or in UV_INDEX_<NAME>_USERNAME and _PASSWORD"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """A file on a page. `yanked` is the reason, perhaps empty; None for a good file. `sha256` (hex), and when it was
    `uploaded` (RFC 3339, PEP 700), where the page says."""

    name: str
    url: str
    yanked: str | None = None
    sha256: str | None = None
    uploaded: str | None = None


class IndexPages:
    """Asks for each page once. `list_folder` lists a folder of the environment. With `asker` an answer of some minutes
    ago will do, and there is only so much time."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        list_folder: Callable[[str], list[str]],
        offline: bool = False,
        asker: Asker | None = None,
    ) -> None:
        self._credentials = credentials
        self._list_folder = list_folder
        self._offline = offline
        self._asker = asker
        self._pages: dict[tuple[Index, str], tuple[PageFile, ...] | None] = {}

    def offers(self, index: Index, project: str) -> bool:
        """Raises FetchError when the index cannot be asked, refuses to answer, or wants other credentials: somebody
        else's project of that name must not be taken instead."""
        files = self.files(index, project)
        return files is not None and (not index.flat or project in _projects_of(file.name for file in files))

    def files(self, index: Index, project: str) -> tuple[PageFile, ...] | None:
        """What the page has, of a page of links all of it; None when the index does not know the project."""
        key = (index, "" if index.flat else project)
        if key not in self._pages:
            self._pages[key] = self._read(index, project)
        return self._pages[key]

    def without_files(self, indexes: Iterable[Index], project: str) -> str:
        """The page of the first index that knows the project, if it has no files; empty otherwise, or if nobody knows.

        Whoever asks has failed: that this fails too is no news.
        """
        for index in indexes:
            with contextlib.suppress(FetchError):
                files = self.files(index, project)
                if files is not None:
                    return "" if files else f"{index.url.rstrip('/')}/{project}/"
        return ""

    def _read(self, index: Index, project: str) -> tuple[PageFile, ...] | None:
        mirrors = self._credentials.mirrors
        if not index.flat:
            return self._get(mirrors.towards(f"{index.url.rstrip('/')}/{project}/"))
        if urlsplit(index.url).scheme in ("http", "https"):
            found = self._get(mirrors.towards(index.url))
            if found is None:
                raise FetchError(f"there is no page of links {index.url}", hint="check the URL after --find-links")
            return found
        folder = index.url.removeprefix("file://")
        return tuple(PageFile(name=name, url=f"file://{folder}/{name}") for name in self._list_folder(folder))

    def _get(self, url: str) -> tuple[PageFile, ...] | None:
        if self._offline:
            raise FetchError(f"cannot read {url}: klock is offline")
        answer = self._ask(url)
        if answer.status in (404, 410) or (answer.status == 403 and _says_403_for_unknown(url)):
            return None
        if answer.status != 200:
            refused = answer.status in (401, 403)
            raise FetchError(
                f"the index page {url} answers with status {answer.status}",
                hint=_LOG_IN if refused else "try again later: the project may be there, so it is taken from no other",
            )
        text = answer.body.decode("utf-8", "replace")
        is_json = answer.headers.get("content-type", "").partition(";")[0].strip().lower() == _JSON
        try:
            return tuple(_files_in_json(text, url) if is_json else _files_in_html(text, url))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise FetchError(f"the index page {url} is not one of PEP 691: {error}") from None

    def _ask(self, url: str) -> Answer:
        headers = {"Accept": _ACCEPT, **self._credentials.headers(url)}
        if self._asker is not None:
            return self._asker.ask(url, headers)
        # Imported here: `klock check` imports this module, but asks no index.
        from klock.fetching.transport import Unreachable, shared_transport

        try:
            answer = shared_transport(self._credentials.ca_bundle).get(url, headers)
        except Unreachable as error:
            message = f"the index page {url} cannot be read: {error.message}"
            raise FetchError(self._credentials.mask(message), hint=error.hint) from None
        return Answer(status=answer.status, headers=answer.headers, body=answer.body)


def _says_403_for_unknown(url: str) -> bool:
    """PyTorch's indexes lie in a bucket that answers so for what is not there; uv has the same exception."""
    host = urlsplit(url).hostname or ""
    return host == "pytorch.org" or host.endswith(".pytorch.org")


def _files_in_json(text: str, base: str) -> Iterator[PageFile]:
    for file in json.loads(text)["files"]:
        name, url = _string(file["filename"]), _string(file["url"])
        yanked: Any = file.get("yanked", False)
        sha256: Any = (file.get("hashes") or {}).get("sha256")
        uploaded: Any = file.get("upload-time")
        yield PageFile(
            name=name,
            url=urljoin(base, url),
            yanked=yanked if isinstance(yanked, str) else "" if yanked else None,
            sha256=sha256 if isinstance(sha256, str) else None,
            uploaded=uploaded if isinstance(uploaded, str) else None,
        )


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _files_in_html(page: str, base: str) -> Iterator[PageFile]:
    # Most indexes answer in JSON.
    from klock.packages.page_links import PageLinks

    found = PageLinks(page)
    for link, yanked in found.links:
        with contextlib.suppress(ValueError):  # no URL at all
            url, _, fragment = urljoin(urljoin(base, found.base), link).partition("#")
            name = file_name_of(url)
            sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
            yield PageFile(name=name, url=url, yanked=yanked, sha256=sha256)


def _projects_of(file_names: Iterable[str]) -> set[str]:
    """Normalised project names of wheel and sdist file names."""
    found: set[str] = set()
    for name in file_names:
        if name.endswith(".whl"):
            found.add(canonicalize_name(name.split("-", 1)[0]))
        elif match := re.fullmatch(r"(.+)-[^-]+\.(tar\.gz|zip|tar\.bz2|tgz)", name):
            found.add(canonicalize_name(match[1]))
    return found
