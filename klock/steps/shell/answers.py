"""Asks upstream once more for what a shell step got, so that a vault has it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence, Set

from klock.digests import Digest
from klock.errors import FetchError
from klock.fetching.downloads import Wanted, download
from klock.lockfile.model import LockedRequest
from klock.recorder.exchange import Refused, Request
from klock.recorder.incoming import Truncated
from klock.recorder.redaction import Redaction
from klock.recorder.report import Notes
from klock.recorder.upstream import Unreachable, Upstream
from klock.secrets.spans import MASK
from klock.steps.context import Context

__all__ = ["fetch_answers"]


def fetch_answers(requests: Sequence[LockedRequest], missing: Set[Digest], context: Context) -> None:
    """Asks for the answers of a shell step again. Those that changed upstream, or need credentials, stay missing.

    A lockfile may name any URL. As the steps themselves, this reaches no server of this machine or of its link.
    """

    wanted = {
        r.sha256: r
        for r in requests
        if f"sha256:{r.sha256}" in missing
        and context.store.find_blob(f"sha256:{r.sha256}") is None
        and can_be_asked_again(r)
    }
    if not wanted:
        return
    upstream = Upstream(
        notes=Notes(Redaction(secrets=(), private_urls=())),
        ca_bundle=context.mirrors.ca_bundle,
        local_hosts=context.local_hosts,
    )
    changed: list[str] = []
    try:
        for sha256, request in wanted.items():
            item = Wanted(
                digest=f"sha256:{sha256}",
                size=request.size,
                name=request.url,
                open=functools.partial(_ask, upstream, request.url),
            )
            try:
                download(
                    [item],
                    task=f"fetch {request.url}",
                    store=context.store,
                    offline=False,
                    progress=context.progress,
                )
            except FetchError as error:
                changed.append(error.message)
    finally:
        upstream.close()
    if changed:
        raise FetchError(changed[0])


def can_be_asked_again(request: LockedRequest) -> bool:
    return (
        request.method == "GET"
        and request.status == 200
        and not request.private
        and not request.authorized
        and request.accept is None
        and request.git_protocol is None
        and MASK not in request.url
    )


def _ask(upstream: Upstream, url: str) -> Iterator[bytes]:

    try:
        incoming = upstream.fetch(Request(method="GET", url=url, headers=(("User-Agent", "klock"),)))
        try:
            if incoming.status != 200:
                raise FetchError(f"{url} answered with status {incoming.status}")
            yield from incoming.chunks()
        finally:
            incoming.close()
    except (Refused, Truncated, Unreachable) as error:
        raise FetchError(f"{url}: {error}") from error
