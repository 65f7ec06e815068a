"""Passing on: what klock's own tools fetch inside, uv, git and apt, reaches upstream, and nothing of it is locked here.

A credential is added on klock's side of the wall, so that there is none inside: to what is read from the servers it is
for, and to nothing else. What then comes is what that server gives whoever may read; nothing can be written there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from klock.recorder.exchange import Answer, BrokenBody, Passing, Refused, Request
from klock.recorder.headers import fit_value
from klock.recorder.incoming import Incoming, Truncated
from klock.recorder.reach import OUTSIDE, Guard, Reach, Role
from klock.recorder.report import Notes, Report
from klock.recorder.upstream import Unreachable, Upstream
from klock.values import dataclass

__all__ = ["Authorize", "Passage"]

Authorize: TypeAlias = Callable[[str], Mapping[str, str]]
"""The headers that say to the server of a URL who asks; none for most."""

# Of the connection to upstream (RFC 9110, 7.6.1), made for each answer, or about other ways to the server.
_NOT_PASSED: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "content-length", "alt-svc", "strict-transport-security"}
)
_GIT_READS: Final = "/git-upload-pack"
_OK: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_READ: Final = frozenset({Role.PAGE, Role.LFS})
_LARGEST_PAGE: Final = 64 << 20


class Passage:
    """Answers from upstream, with `authorize` for what only reads; of no more than `reach`, where there is one. Any
    thread may ask."""

    def __init__(self, *, upstream: Upstream, notes: Notes, authorize: Authorize, reach: Reach | None = None) -> None:
        self.notes = notes
        self._upstream = upstream
        self._authorize = authorize
        self._guard = None if reach is None else Guard(reach)

    def finds(self, name: str) -> bool:
        """Whether the name has an address. Raises Refused when no name server answers, or the address is forbidden.

        A name out of reach has one here: what is then asked for is refused by its URL.
        """
        if self._guard is not None and not self._guard.has_host(name):
            return True
        return self._upstream.has_name(name)

    def answer(self, request: Request) -> Answer:
        """Upstream's answer, still coming in. Raises Refused when it may not be asked."""
        role = None if self._guard is None else self._guard.role_of(request)
        if self._guard is not None and role is None:
            raise Refused(OUTSIDE)
        extra = self._authorize(request.url) if _only_reads(request) and not request.header("authorization") else {}
        if role in _READ:
            extra = {**extra, "Accept-Encoding": "gzip"}
        try:
            incoming = self._upstream.pass_on(request, extra)
        except Refused:
            raise
        except Unreachable as error:
            return Answer.of_text(502, self.notes.refuse_request(request, str(error)))
        headers = tuple((n, fit_value(value)) for n, value in incoming.headers if n.lower() not in _NOT_PASSED)
        passing: Passing = _Coming(incoming)
        if self._guard is not None and role is not None:
            if incoming.status in _REDIRECTS:
                self._guard.learn_redirect(request, role, incoming.header("location"))
            elif incoming.status == _OK and role in _READ and _is_text(incoming) and request.method != "HEAD":
                content = _all_of(passing)
                if content is None:
                    return Answer.of_text(502, self.notes.refuse_request(request, "the page is too large"))
                text = _unpacked(content, incoming.header("content-encoding"))
                self._guard.learn_page(request.url, incoming.header("content-type"), text)
                passing = _Held(content)
        return Answer(status=incoming.status, headers=headers, size=incoming.size, passing=passing)

    def report(self) -> Report:
        return self.notes.report((), links=self._guard.links if self._guard is not None else None)


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


@dataclass(frozen=True, slots=True)
class _Held:
    """What has come, as something to send on."""

    content: bytes

    def chunks(self) -> Iterator[bytes]:
        yield self.content

    def close(self) -> None:
        pass


def _all_of(passing: Passing) -> bytes | None:
    """None for more than a page has. Raises BrokenBody."""
    content = bytearray()
    try:
        for chunk in passing.chunks():
            content += chunk
            if len(content) > _LARGEST_PAGE:
                return None
    finally:
        passing.close()
    return bytes(content)


def _unpacked(content: bytes, encoding: str) -> str:
    """A page's text; none of one that is packed in another way than was asked for."""
    if encoding.lower() in ("gzip", "x-gzip"):
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, 8 * _LARGEST_PAGE)
        except zlib.error:
            content = b""
    return content.decode("utf-8", "replace")


def _is_text(incoming: Incoming) -> bool:
    media_type = incoming.header("content-type").lower()
    return media_type.startswith("text/") or "json" in media_type or "html" in media_type


def _only_reads(request: Request) -> bool:
    return request.is_safe or (request.method == "POST" and urlsplit(request.url).path.endswith(_GIT_READS))
