"""What a locked request may say: what a recorder could have written, and nothing else.

Requests of a lockfile become answers within a step, connections of this machine, and words on a terminal. So they are
looked at once, when they are read: nothing later has to expect a header that frames a message, a port that is none, or
characters that steer a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from klock.errors import LockfileError
from klock.lockfile.model import LockedRequest, ShellLock
from klock.patterns import regex

__all__ = ["check_requests"]

_HOST: Final = r"[a-z0-9._*-]{1,255}"
_HOST_NAME: Final = regex(_HOST)
_URL: Final = regex(rf"https?://{_HOST}(?::(?P<port>[1-9]\d{{0,4}}))?/[!-~]*")
_METHOD: Final = regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110, 9.1
_HEADER: Final = regex(r"(?P<name>[A-Za-z0-9-]{1,64}):(?: [^\x00-\x1f\x7f]*)?")
_VALUE: Final = regex(r"[^\x00-\x1f\x7f]*")
_SHA256: Final = regex(r"[0-9a-f]{64}")
_FRAMING: Final = frozenset(
    {"connection", "content-length", "content-range", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_LAST_PORT: Final = 65535
_LARGEST: Final = (1 << 63) - 1


def check_requests(step: ShellLock, where: str) -> None:
    """Raises LockfileError naming the place, such as `steps[2].requests[0].url`, of what cannot be."""
    for number, request in enumerate(step.requests):
        for key, value, what in _faults(request):
            raise LockfileError(f"{where}.requests[{number}].{key}: {value!r} is not {what}")
    for number, name in enumerate(step.unknown_hosts):
        if _HOST_NAME.fullmatch(name) is None:
            raise LockfileError(f"{where}.unknown-hosts[{number}]: {name!r} is not the name of a host")


def _faults(request: LockedRequest) -> Iterator[tuple[str, object, str]]:
    """Of each fault the key, the value, and what it should be."""
    if _METHOD.fullmatch(request.method) is None:
        yield "method", request.method, "a method of HTTP"
    url = _URL.fullmatch(request.url)
    if url is None or int(url["port"] or 1) > _LAST_PORT:
        yield "url", request.url, "a URL as klock writes it"
    if not 200 <= request.status < 500:
        yield "status", request.status, "a status that is ever locked"
    if request.size > _LARGEST:
        yield "size", request.size, "a size"
    for header in request.headers:
        match = _HEADER.fullmatch(header)
        if match is None or match["name"].lower() in _FRAMING:
            yield "headers", header, "a header that is ever locked"
    if request.body is not None and _SHA256.fullmatch(request.body) is None:
        yield "body", request.body, "a SHA-256 in hex"
    for key, value in (("accept", request.accept), ("git-protocol", request.git_protocol)):
        if value is not None and _VALUE.fullmatch(value) is None:
            yield key, value, "the value of a header"
    if request.turn is not None and request.turn < 1:
        yield "turn", request.turn, "a number from 1 on"
