"""From an address to an archive: asks the server, fetches one commit without history, and its submodules likewise."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from klock.errors import FetchError, ImageError, KlockError
from klock.extras import missing_extra_hint
from klock.recorder.doors import wheres_in
from klock.recorder.redaction import Redaction
from klock.recorder.report import Notes
from klock.recorder.upstream import Upstream
from klock.repositories.address import https_url
from klock.repositories.archive import archive_of
from klock.repositories.checkout import Checkout, Submodule
from klock.repositories.remote import Authorize, Named, Remote
from klock.temporary import temporary_folder

__all__ = ["Repositories"]

_DEEPEST: Final = 8
_MOST_SUBMODULES: Final = 500


class Repositories:
    """Repositories at any server but those of this machine; there at the one of `url` alone, which the user names."""

    def __init__(
        self,
        url: str,
        *,
        authorize: Authorize,
        secrets: Collection[str] = (),
        ca_bundle: Path | None = None,
        local_hosts: Collection[str] = (),
        on_received: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`on_received` is told of bytes as they arrive. Raises KlockError where klock's extra `git` is missing."""
        try:
            import dulwich  # noqa: F401
        except ImportError as error:
            hint = missing_extra_hint("git")
            raise KlockError("to fetch git repositories, klock needs dulwich", hint=hint) from error
        self._url = url
        self._authorize = authorize
        self._on_received = on_received
        self._submodules = 0
        self._upstream = Upstream(
            notes=Notes(Redaction(secrets=tuple(secrets), private_urls=())),
            ca_bundle=ca_bundle,
            local_hosts=local_hosts,
            origins=wheres_in([url]),
        )

    def find(self, wanted: str) -> Named:
        """The commit that a name of the repository means now. Raises FetchError."""
        return self._remote(self._url).find(wanted)

    def archive(
        self, named: Named, *, folder: str = "", keeps_git: bool = False, submodules: bool = True
    ) -> Iterator[bytes]:
        """The bytes of the archive of a commit's files. Raises FetchError."""
        with temporary_folder("git") as place:
            checkout = self._checkout(self._url, named, place, depth=0 if submodules else _DEEPEST + 1)
            yield from archive_of(checkout, named, folder=folder, git=self._url if keeps_git else None)

    @contextmanager
    def opened(self) -> Iterator[Repositories]:
        try:
            yield self
        finally:
            self._upstream.close()

    def _remote(self, url: str) -> Remote:
        return Remote(url=url, upstream=self._upstream, authorize=self._authorize, on_received=self._on_received)

    def _checkout(self, url: str, named: Named, place: Path, *, depth: int) -> Checkout:
        self._submodules += 1
        if self._submodules > _MOST_SUBMODULES:
            raise FetchError(f"{self._url} has more than {_MOST_SUBMODULES} submodules", hint="add ?submodules=false")
        objects = self._remote(url).fetch(named, place / str(self._submodules))

        def open_submodule(submodule: Submodule) -> Checkout:
            if depth == _DEEPEST:
                raise FetchError(f"the submodules of {self._url} are too deep", hint="add ?submodules=false to the URL")
            below = _submodule_url(url, submodule)
            return self._checkout(below, Named(commit=submodule.commit), place, depth=depth + 1)

        return Checkout(
            objects=objects,
            commit=named.commit,
            source=url,
            open_submodule=open_submodule if depth <= _DEEPEST else None,
        )


def _submodule_url(url: str, submodule: Submodule) -> str:
    """A relative URL begins at that of the repository (gitmodules(5))."""
    written = submodule.url
    if written.startswith(("./", "../")):
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        while written.startswith(("./", "../")):
            first, _, written = written.partition("/")
            path = posixpath.dirname(path) if first == ".." else path
        return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}/{written}"
    try:
        return https_url(written)
    except ImageError as error:
        where = submodule.path.decode("utf-8", "replace")
        raise FetchError(f"{url}: its submodule {where} is at {written!r}: {error.message}", hint=error.hint) from error
