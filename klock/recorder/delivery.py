"""Sends answers: whole, in part, or only that nothing changed (RFC 9110, 13 and 14).

A validator is the SHA-256 of the body, so it is known only when all of a body is there, and means the same in each run.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, TypeAlias, cast

import h11

from klock.recorder.exchange import Answer, Body, BrokenBody, Request
from klock.values import dataclass

__all__ = ["Wire", "deliver"]

Wire: TypeAlias = socket.socket | ssl.SSLSocket

_DATE: Final = "Sat, 01 Jan 2000 00:00:00 GMT"
_PIECE: Final = 1 << 18
_SENDFILE: Final = 1 << 24
_IN_ONE_PIECE: Final = 1 << 16
_OUR_TAG: Final = re.compile(r'"([0-9a-f]{64})"')
_RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})", re.IGNORECASE)
_WITHOUT_BODY: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of a body from `start` up to `end`; None for an end that is not known yet."""

    start: int
    end: int | None


class _Length:
    """Stands for bytes that bypass h11, which needs only their number."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


def deliver(wire: Wire, connection: h11.Connection, request: Request, answer: Answer) -> None:
    """Sends `answer`. Raises BrokenBody when its body breaks off after it was begun, OSError when nobody takes it."""
    if answer.passing is not None:
        _pass_on(wire, connection, request, answer)
        return
    headers = [*answer.headers, ("Date", _DATE)]
    body = answer.body
    if request.method == "HEAD" or body is None or answer.status in _WITHOUT_BODY:
        if request.method == "HEAD" and answer.size:
            headers.append(("Content-Length", str(answer.size)))
        elif answer.status not in _WITHOUT_BODY and request.method != "HEAD":
            headers.append(("Content-Length", "0"))
        wire.sendall(_head(connection, answer.status, headers) + _end(connection))
        return
    status = answer.status
    part: _Part | None = _Part(0, body.size)
    if answer.status == 200 and request.is_safe:
        status, part = _select(request, body)
        headers += _validators(body, status, part)
    if part is None:
        length = "0" if status == 416 else None
        headers += [("Content-Length", length)] if length else []
        wire.sendall(_head(connection, status, headers) + _end(connection))
    elif part.end is None:
        wire.sendall(_head(connection, status, headers))
        _send_growing(wire, connection, body)
    else:
        headers.append(("Content-Length", str(part.end - part.start)))
        _send_part(wire, connection, _head(connection, status, headers), body, part)


def _head(connection: h11.Connection, status: int, headers: list[tuple[str, str]]) -> bytes:
    encoded = [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in headers]
    return connection.send(h11.Response(status_code=status, headers=encoded, reason=_reason(status))) or b""


def _reason(status: int) -> bytes:
    """The usual words for a status, whatever upstream's are: a server may leave them out."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def _end(connection: h11.Connection) -> bytes:
    return connection.send(h11.EndOfMessage()) or b""


# -- which part


def _select(request: Request, body: Body) -> tuple[int, _Part | None]:
    """The status and the part of a whole body that was asked for."""
    unless = request.header("if-none-match")
    if unless is not None:
        tags = _OUR_TAG.findall(unless)
        if tags:
            body.wait()
        if body.sha256 in tags or unless.strip() == "*":
            return 304, None
    whole = 200, _Part(0, body.size)
    wanted = _RANGE.fullmatch((request.header("range") or "").strip())
    if wanted is None or not any(wanted.groups()):
        return whole  # no range, several, or an unreadable one: the whole body is a right answer to each
    if (condition := request.header("if-range")) is not None:
        if _OUR_TAG.fullmatch(condition.strip()) is None:
            return whole
        body.wait()
        if condition.strip().strip('"') != body.sha256:
            return whole
    if body.size is None:
        body.wait()
    size = body.size or 0
    first, last = wanted.groups()
    if not first:
        start, end = max(0, size - int(last)), size
        if not int(last):
            start = size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return whole
    if start >= size:
        return 416, None
    return 206, _Part(start, end)


def _validators(body: Body, status: int, part: _Part | None) -> list[tuple[str, str]]:
    headers = [("Accept-Ranges", "bytes")]
    if body.sha256 is not None:
        headers.append(("ETag", f'"{body.sha256}"'))
    if status == 206 and part is not None:
        headers.append(("Content-Range", f"bytes {part.start}-{(part.end or 1) - 1}/{body.size}"))
    if status == 416:
        headers.append(("Content-Range", f"bytes */{body.size}"))
    return headers


# -- bytes


def _send_part(wire: Wire, connection: h11.Connection, head: bytes, body: Body, part: _Part) -> None:
    assert part.end is not None
    length = part.end - part.start
    if length:
        connection.send_with_data_passthrough(h11.Data(data=cast("bytes", _Length(length))))
    _end(connection)
    if body.content is not None:
        _send_all(wire, head, body.content[part.start : part.end])
    elif length:
        assert body.path is not None
        descriptor = os.open(body.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if length <= _IN_ONE_PIECE:
                body.arrived(part.end - 1)
                _send_all(wire, head, os.pread(descriptor, length, part.start))
                return
            wire.sendall(head)
            send = _file_sender(wire, descriptor)
            offset = part.start
            while offset < part.end:
                offset = send(offset, min(part.end, body.arrived(offset)))
        finally:
            os.close(descriptor)
    else:
        wire.sendall(head)


def _send_all(wire: Wire, head: bytes, content: bytes) -> None:
    if len(content) <= _IN_ONE_PIECE:
        wire.sendall(head + content)
    else:
        wire.sendall(head)
        wire.sendall(content)


def _pass_on(wire: Wire, connection: h11.Connection, request: Request, answer: Answer) -> None:
    """Sends what upstream sends, as it comes: of known size, or in chunks where the client knows them."""
    assert answer.passing is not None
    headers = list(answer.headers)
    has_body = request.method != "HEAD" and answer.status not in _WITHOUT_BODY
    try:
        if answer.size is not None and answer.status not in _WITHOUT_BODY:
            headers.append(("Content-Length", str(answer.size)))
        wire.sendall(_head(connection, answer.status, headers))
        for chunk in answer.passing.chunks() if has_body else ():
            wire.sendall(connection.send(h11.Data(data=chunk)) or b"")
        wire.sendall(_end(connection))
    finally:
        answer.passing.close()


def _send_growing(wire: Wire, connection: h11.Connection, body: Body) -> None:
    """A body of unknown size, in chunks where the client knows them."""
    assert body.path is not None
    with open(body.path, "rb", buffering=0) as file:
        while True:
            body.arrived(file.tell())
            piece = file.read(_PIECE)
            if not piece:
                # The end, unless bytes arrived between the check and the read.
                if body.sha256 is not None and file.tell() == body.size:
                    break
                continue
            wire.sendall(connection.send(h11.Data(data=piece)) or b"")
    wire.sendall(_end(connection))


def _file_sender(wire: Wire, descriptor: int) -> Callable[[int, int], int]:
    """A function that sends bytes of a file from an offset up to another one, and returns how far it came."""
    if isinstance(wire, ssl.SSLSocket):
        buffer = bytearray(_PIECE)
        view = memoryview(buffer)

        def send_encrypted(offset: int, end: int) -> int:
            count = os.preadv(descriptor, [view[: min(_PIECE, end - offset)]], offset)
            if not count:
                raise BrokenBody
            wire.sendall(view[:count])
            return offset + count

        return send_encrypted

    def send_plain(offset: int, end: int) -> int:
        count = os.sendfile(wire.fileno(), descriptor, offset, min(_SENDFILE, end - offset))
        if not count:
            raise BrokenBody
        return offset + count

    return send_plain
