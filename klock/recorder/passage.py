"""Passing on: what klock's own tools fetch inside, uv, git and apt, reaches upstream, and nothing of it is locked here.

A credential is added on klock's side of the wall, so that there is none inside: to what is read from the servers it is
for, and to nothing else. What then comes is what that server gives whoever may read; nothing can be written there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from klock.recorder.exchange import Answer, BrokenBody, Refused, Request
from klock.recorder.headers import fit_value
from klock.recorder.incoming import Incoming, Truncated
from klock.recorder.report import Notes, Report
from klock.recorder.upstream import Unreachable, Upstream

__all__ = ["Authorize", "Passage"]

Authorize: TypeAlias = Callable[[str], Mapping[str, str]]
"""The headers that say to the server of a URL who asks; none for most."""

# Of the connection to upstream (RFC 9110, 7.6.1), made for each answer, or about other ways to the server.
_NOT_PASSED: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "content-length", "alt-svc", "strict-transport-security"}
)
_GIT_READS: Final = "/git-upload-pack"


class Passage:
    """Answers from upstream, with `authorize` for what only reads. Any thread may ask."""

    def __init__(self, *, upstream: Upstream, notes: Notes, authorize: Authorize) -> None:
        self.notes = notes
        self._upstream = upstream
        self._authorize = authorize

    def finds(self, name: str) -> bool:
        """Whether the name has an address. Raises Refused when no name server answers, or the address is forbidden."""
        return self._upstream.has_name(name)

    def answer(self, request: Request) -> Answer:
        """Upstream's answer, still coming in. Raises Refused when it may not be asked."""
        extra = self._authorize(request.url) if _only_reads(request) and not request.header("authorization") else {}
        try:
            incoming = self._upstream.pass_on(request, extra)
        except Refused:
            raise
        except Unreachable as error:
            return Answer.of_text(502, self.notes.refuse_request(request, str(error)))
        headers = tuple((n, fit_value(value)) for n, value in incoming.headers if n.lower() not in _NOT_PASSED)
        return Answer(status=incoming.status, headers=headers, size=incoming.size, passing=_Coming(incoming))

    def report(self) -> Report:
        return self.notes.report(())


class _Coming:
    """What comes from upstream, as something to send on."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from self._incoming.chunks()
        except Truncated as error:
            raise BrokenBody from error

    def close(self) -> None:
        self._incoming.close()


def _only_reads(request: Request) -> bool:
    return request.is_safe or (request.method == "POST" and urlsplit(request.url).path.endswith(_GIT_READS))
