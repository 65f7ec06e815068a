"""What the server of a repository says and has, asked over git's smart HTTP protocol (git's gitprotocol-http(5)).

dulwich speaks the protocol. The requests go out as those of steps do (`klock.recorder.upstream`): to no server of this
machine that the user did not name, and with credentials for the origins alone that they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urljoin, urlsplit

from klock.errors import FetchError, KlockError
from klock.recorder.exchange import Refused, Request
from klock.recorder.incoming import Incoming, Truncated
from klock.recorder.upstream import Unreachable, Upstream
from klock.repositories.address import COMMIT
from klock.values import dataclass, field

if TYPE_CHECKING:
    from dulwich.object_store import DiskObjectStore

__all__ = ["Authorize", "Named", "Remote"]

Authorize = Callable[[str], Mapping[str, str]]
"""The headers that say who klock is to the server of a URL."""

_MOST_REDIRECTS: Final = 10
_BROKEN: Final = (ValueError, LookupError, AssertionError, OSError, EOFError)
"""What dulwich raises, too, where a server sends something else than it may."""
_HINT: Final = "check the URL; a private repository needs an entry in netrc, or a token in GIT_AUTH_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a name leads to: the `commit`, the annotated `tag` on the way to it (its object's name, "" without one), and
    the full name of the reference, "" for a commit that was named by itself."""

    commit: str
    tag: str = ""
    reference: str = ""


@dataclass(kw_only=True)
class Remote:
    """The repository at `url`, which has no credentials. `on_received` is told of bytes of packs as they arrive."""

    url: str
    upstream: Upstream
    authorize: Authorize
    on_received: Callable[[int], None]
    _refs: dict[str, str] | None = field(default=None, repr=False)
    _head: str = field(default="", repr=False)

    def find(self, wanted: str) -> Named:
        """What a branch, a tag, a full name or a commit is; "" is the default branch. A branch comes before a tag of
        its name, as with `git checkout`. Raises FetchError when there is none."""
        if COMMIT.fullmatch(wanted):
            return Named(commit=wanted)
        refs = self._references()
        if not wanted:
            head = self._head or "HEAD"
            if head not in refs:
                raise FetchError(f"{self.url} has no default branch", hint="name one: add #BRANCH to the URL")
            return Named(commit=refs[head], reference=self._head)
        bare = wanted.removeprefix("refs/")
        for reference in (f"refs/heads/{wanted}", f"refs/tags/{wanted}", f"refs/{bare}"):
            if reference in refs:
                peeled = refs.get(f"{reference}^{{}}")
                return Named(
                    commit=peeled or refs[reference], tag=refs[reference] if peeled else "", reference=reference
                )
        near = sorted(name.removeprefix("refs/heads/") for name in refs if name.startswith("refs/heads/"))[:5]
        hint = f"its branches are {', '.join(near)}" if near else "check the name"
        raise FetchError(f"{self.url} has no branch, tag or full commit {wanted}", hint=hint)

    def fetch(self, named: Named, folder: Path) -> DiskObjectStore:
        """The commit with its tree, and no history, in an object store in the empty `folder`. Raises FetchError."""
        from dulwich.object_store import DiskObjectStore
        from dulwich.objects import ObjectID

        objects = DiskObjectStore.init(str(folder))
        wanted = named.tag or named.commit
        try:
            self._fetch([wanted], objects, depth=1)
        except FetchError:
            # A server may give only what its references lead to: then all of that, with its history.
            heads = {v for k, v in self._references().items() if k.startswith(("refs/heads/", "refs/tags/"))}
            self._fetch(sorted(heads - set(self._peeled())), objects, depth=None)
        if ObjectID(named.commit.encode()) not in objects:
            raise FetchError(
                f"{self.url} no longer has the commit {named.commit}",
                hint="`klock vault pull` may have it; else name a commit that is still there",
            )
        return objects

    def _peeled(self) -> Iterator[str]:
        return (value for name, value in self._references().items() if name.endswith("^{}"))

    def _references(self) -> dict[str, str]:
        if self._refs is None:
            from dulwich.refs import check_ref_format

            # Of all references, since BuildKit lets any be named (`pull/42/head`).
            answer = self._asking(lambda client, path: client.get_refs(path, ref_prefix=[b"HEAD", b"refs/"]))
            found: dict[str, str] = {}
            for name, value in answer.refs.items():
                if value is not None and (name == b"HEAD" or check_ref_format(name.removesuffix(b"^{}"))):
                    found[name.decode("utf-8", "surrogateescape")] = value.decode("ascii")
            head = answer.symrefs.get(b"HEAD", b"").decode("utf-8", "surrogateescape")
            self._head = head if head in found else ""
            self._refs = found
        return self._refs

    def _fetch(self, wanted: Sequence[str], objects: DiskObjectStore, *, depth: int | None) -> None:
        from dulwich.object_store import ObjectStoreGraphWalker

        file, commit, abort = objects.add_pack()

        def receive(chunk: bytes) -> int:
            self.on_received(len(chunk))
            return file.write(chunk)

        def ask(client: Any, path: str) -> None:
            client.fetch_pack(
                path,
                lambda refs, depth=None: [name.encode() for name in wanted],
                ObjectStoreGraphWalker([], lambda _: []),
                receive,
                depth=depth,
            )

        try:
            self._asking(ask)
        except BaseException:
            abort()
            raise
        self._guarded(commit)

    def _asking(self, ask: Callable[[Any, str], Any]) -> Any:
        parts = urlsplit(self.url)
        client = _client(f"{parts.scheme}://{parts.netloc}", self._request)
        return self._guarded(lambda: ask(client, parts.path))

    def _guarded(self, act: Callable[[], Any]) -> Any:
        """Whatever the server sends, the user sees one kind of error."""
        from dulwich.errors import FileFormatException, GitProtocolError, NotGitRepository

        try:
            return act()
        except KlockError:
            raise
        except NotGitRepository as error:
            raise FetchError(f"there is no git repository at {self.url}", hint=_HINT) from error
        except (Refused, Truncated, Unreachable) as error:
            raise FetchError(f"{self.url}: {error}", hint="try again later, or check the URL") from error
        except (
            GitProtocolError,
            FileFormatException,
            ValueError,
            KeyError,
            AssertionError,
            OSError,
            EOFError,
        ) as error:
            reason = str(error).strip()[:300] or type(error).__name__
            raise FetchError(f"{self.url}: its server said what klock cannot read: {reason}", hint=_HINT) from error

    def _request(self, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[Incoming, str]:
        """The answer, and the URL that gave it. Only what changes nothing is redirected, as with git."""
        for _ in range(_MOST_REDIRECTS):
            told = {**headers, "User-Agent": "git/klock", **self.authorize(url)}
            asked = Request(
                method="GET" if body is None else "POST", url=url, headers=tuple(told.items()), body=body or b""
            )
            incoming = self.upstream.fetch(asked) if body is None else self.upstream.pass_on(asked, {})
            if body is not None or incoming.status not in (301, 302, 303, 307, 308):
                break
            target = urljoin(url, incoming.header("location"))
            incoming.close()
            if url.startswith("https://") and not target.startswith("https://"):
                raise FetchError(f"{self.url} redirects to what is not https", hint="check the URL")
            url = target
        else:
            raise FetchError(f"{self.url} redirects without end", hint="check the URL")
        if incoming.status != 200:
            incoming.close()
            if incoming.status in (401, 403, 404):
                raise FetchError(f"{self.url} answered with status {incoming.status}", hint=_HINT)
            raise FetchError(f"{self.url} answered with status {incoming.status}", hint="try again later")
        return incoming, url


class _Response:
    """What dulwich reads of an answer."""

    def __init__(self, incoming: Incoming, *, location: str) -> None:
        self.status = incoming.status
        self.content_type = incoming.header("content-type")
        self.redirect_location = location
        self.close = incoming.close
        self._chunks = incoming.chunks()
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing > 0:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            parts.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)


def _client(base: str, request: Callable[[str, Mapping[str, str], bytes | None], tuple[Incoming, str]]) -> Any:
    from dulwich.client import AbstractHttpGitClient

    class Client(AbstractHttpGitClient):
        def _http_request(
            self, url: str, headers: Any = None, data: Any = None, raise_for_status: bool = True
        ) -> tuple[Any, Callable[[int], bytes]]:
            body = data if data is None or isinstance(data, bytes) else b"".join(data)
            incoming, answered = request(url, headers or {}, body)
            response = _Response(incoming, location=answered if answered != url else "")
            return cast(Any, response), response.read

    return Client(base, thin_packs=False, quiet=True)
