"""What steps fetch by URL, and klock itself asks for: as commands of steps, it reaches no server of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from klock.errors import FetchError
from klock.recorder.doors import wheres_in
from klock.recorder.exchange import Refused, Request
from klock.recorder.incoming import Truncated
from klock.recorder.redaction import Redaction
from klock.recorder.report import Notes
from klock.recorder.upstream import Unreachable, Upstream
from klock.words import in_bytes

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.digests import Digest
    from klock.findings import Finding
    from klock.steps.at import StepAt
    from klock.steps.context import Context

__all__ = ["NotFound", "chunks_at", "fetch_new", "moved_files"]

_MOST_REDIRECTS: Final = 10


class NotFound(FetchError):
    """The server says that there is no such file."""


def chunks_at(
    url: str, context: Context, *, authorize: Callable[[str], Mapping[str, str]] = lambda _: {}
) -> Iterator[bytes]:
    """The bytes at a URL, redirects followed. The server of the URL itself may be on this machine: the user names it.

    `authorize` gives the headers that say who klock is to the server of a URL. Raises FetchError.
    """
    upstream = Upstream(
        notes=Notes(Redaction(secrets=(), private_urls=())),
        ca_bundle=context.mirrors.ca_bundle,
        local_hosts=context.local_hosts,
        origins=wheres_in([url]),
    )
    try:
        for _ in range(_MOST_REDIRECTS):
            headers = {"User-Agent": "klock", **authorize(url)}
            incoming = upstream.fetch(Request(method="GET", url=url, headers=tuple(headers.items())))
            try:
                if (target := _redirected(incoming.status, incoming.headers, url)) is None:
                    if incoming.status in (404, 410):
                        raise NotFound(f"{url} answered with status {incoming.status}", hint="check the URL")
                    if incoming.status != 200:
                        raise FetchError(f"{url} answered with status {incoming.status}", hint="check the URL")
                    yield from incoming.chunks()
                    return
                url = target
            finally:
                incoming.close()
        raise FetchError(f"{url} redirects without end", hint="check the URL")
    except (Refused, Truncated, Unreachable) as error:
        raise FetchError(f"{url}: {error}", hint="try again later, or check the URL") from error
    finally:
        upstream.close()


def fetch_new(url: str, context: Context, *, task: str) -> tuple[Digest, int]:
    """Stores what is at a URL that is not locked yet. Returns its digest and size. Raises FetchError."""
    if context.offline:
        raise FetchError(f"{url} is not locked yet, and klock is offline", hint="run it without --offline")
    context.progress.begin(task)
    digest, size = context.store.add_blob(chunks_at(url, context), source=url, on_progress=context.progress.advance)
    context.progress.done(in_bytes(size))
    return digest, size


def moved_files(
    files: Sequence[tuple[str, int, str]], at: StepAt[Any], context: Context, asker: Asker
) -> Iterator[Finding]:
    """Findings without step and location, of files (URL, size in bytes, SHA-256) that a server no longer has, or has
    otherwise."""
    from klock.findings import Code, Finding
    from klock.steps.still_given import Given, Other, others_now

    given = [Given(url=url, size=size, sha256=sha256) for url, size, sha256 in files]
    for other in others_now(given, asker, named=context.named_servers(at.lock)):
        if isinstance(other, Other):
            code = Code.GONE if other.is_gone else Code.OTHER_FILE
            yield Finding(code=code, message=f"{other.given.url} {other.words}", expected=other.given.sha256)
        else:
            asker.note(other.message)


def _redirected(status: int, headers: Sequence[tuple[str, str]], url: str) -> str | None:
    if status not in (301, 302, 303, 307, 308):
        return None
    location = next((value for name, value in headers if name.lower() == "location"), None)
    if location is None:
        raise FetchError(f"{url} redirects to nowhere", hint="check the URL")
    return urljoin(url, location)
