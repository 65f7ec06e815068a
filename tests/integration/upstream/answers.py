"""How files.upstream.test and other.upstream.test answer: one path for each thing that servers of the world do.

/bytes/NAME/SIZE            that many bytes, always the same for a name; with validators and ranges
/large/NAME/MIB             the same as many mebibytes, sent in pieces
/slow/NAME                  in pieces with pauses
/chunked/NAME/SIZE          without a length
/gzip/NAME                  compressed for those who accept it;  /gzip-anyway/NAME for the others too
/hops/N                     N redirects, then a file;  /redirect/STATUS?to=URL
/signed-redirect/NAME       to a URL with a signature of its own each time, on another host
/basic/NAME  /bearer/NAME   401 without credentials;  /query/NAME?token=...;  /cookie/NAME after /cookie-login
/token  /plain-token        POST: an access token, as JSON or as text;  /api/NAME wants it
/form  /json  /count        POST: what was sent in other words; the number of the request
/moving/NAME                other bytes once the test says that upstream moved
/flaky/NAME                 500 the first time;  /status/NNN;  /cut/NAME ends in the middle;  /headers what was sent
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from tests.integration.upstream.connections import Answer, Request, conditional
from tests.integration.upstream.credentials import API_TOKEN, PASSWORD, QUERY_TOKEN, USER, Issued
from tests.integration.upstream.names import ZONE

__all__ = ["MOVED", "Files", "content"]

MOVED: Final = "moved"
"""The file in the world's folder whose presence says that upstream moved."""

_MEBIBYTE: Final = 1 << 20
_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_TEXT: Final = {"Content-Type": "text/plain; charset=utf-8"}
_JSON: Final = {"Content-Type": "application/json"}


@functools.lru_cache(maxsize=4)
def content(name: str, size: int) -> bytes:
    """The bytes of a file of the upstream."""
    return hashlib.shake_128(name.encode()).digest(size)


def text(line: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status=status, body=line.encode() + b"\n", headers={**_TEXT, **(headers or {})})


class Files:
    """The application. State is only what a real server would have: issued values, counters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._issued = Issued(folder / "issued")
        self._numbers = itertools.count(1)
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._answers: dict[str, Callable[[Request, list[str]], Answer]] = {
            "bytes": self._bytes,
            "large": self._large,
            "slow": self._slow,
            "chunked": self._chunked,
            "gzip": self._gzip,
            "gzip-anyway": self._gzip,
            "hops": self._hops,
            "redirect": self._redirect,
            "signed-redirect": self._signed_redirect,
            "signed": self._signed,
            "basic": self._basic,
            "bearer": self._bearer,
            "query": self._query,
            "cookie-login": self._cookie_login,
            "cookie": self._cookie,
            "token": self._token,
            "plain-token": self._plain_token,
            "api": self._api,
            "form": self._form,
            "json": self._json,
            "count": self._count,
            "moving": self._moving,
            "flaky": self._flaky,
            "status": self._status,
            "cut": self._cut,
            "headers": self._headers,
        }

    def __call__(self, request: Request) -> Answer:
        first, *rest = request.path.strip("/").split("/")
        answer = self._answers.get(first)
        return answer(request, rest) if answer else text("there is nothing here", status=404)

    # -- bodies

    def _bytes(self, request: Request, rest: list[str]) -> Answer:
        return conditional(request, Answer(body=content(rest[0], int(rest[1])), headers=_OCTETS))

    def _large(self, request: Request, rest: list[str]) -> Answer:
        block, count = content(rest[0], _MEBIBYTE), int(rest[1])
        return Answer(chunks=itertools.repeat(block, count), length=count * _MEBIBYTE, headers=_OCTETS)

    def _slow(self, request: Request, rest: list[str]) -> Answer:
        def pieces() -> Iterator[bytes]:
            for number in range(4):
                time.sleep(0.2)
                yield f"{rest[0]} {number}\n".encode()

        return Answer(chunks=pieces(), headers=_TEXT)

    def _chunked(self, request: Request, rest: list[str]) -> Answer:
        body = content(rest[0], int(rest[1]))
        pieces = (body[at : at + 1000] for at in range(0, len(body), 1000))
        return Answer(chunks=pieces, headers=_OCTETS)

    def _gzip(self, request: Request, rest: list[str]) -> Answer:
        body = f"compressed {rest[0]}\n".encode() * 100
        if request.path.startswith("/gzip/") and "gzip" not in request.header("Accept-Encoding"):
            return Answer(body=body, headers=_TEXT | {"Vary": "Accept-Encoding"})
        headers = _TEXT | {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Answer(body=gzip.compress(body, mtime=0), headers=headers)

    # -- redirects

    def _hops(self, request: Request, rest: list[str]) -> Answer:
        left = int(rest[0])
        host = f"other.{ZONE}" if request.host.startswith("files.") else f"files.{ZONE}"
        if left == 0:
            return text("arrived")
        # To the other host and, from http, to https as well.
        return Answer(status=302, headers={"Location": f"https://{host}/hops/{left - 1}"})

    def _redirect(self, request: Request, rest: list[str]) -> Answer:
        return Answer(status=int(rest[0]), headers={"Location": dict(request.query)["to"]})

    def _signed_redirect(self, request: Request, rest: list[str]) -> Answer:
        signature = self._issued.make("signature")
        query = (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAUPSTREAM%2F20300101%2Feu%2Fs3%2Faws4_request"
            f"&X-Amz-Date=20300101T000000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
        )
        return Answer(status=307, headers={"Location": f"https://other.{ZONE}/signed/{rest[0]}?{query}"})

    def _signed(self, request: Request, rest: list[str]) -> Answer:
        if not self._issued.is_for(dict(request.query).get("X-Amz-Signature", ""), "signature"):
            return text("SignatureDoesNotMatch", status=403)
        return conditional(request, Answer(body=content(rest[0], 5000), headers=_OCTETS))

    # -- who asks

    def _basic(self, request: Request, rest: list[str]) -> Answer:
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.header("Authorization") != expected:
            return text("who are you?", status=401, headers={"WWW-Authenticate": 'Basic realm="upstream"'})
        return text(f"for members: {rest[0]}")

    def _bearer(self, request: Request, rest: list[str]) -> Answer:
        if request.header("Authorization") != f"Bearer {API_TOKEN}":
            return text("who are you?", status=401, headers={"WWW-Authenticate": 'Bearer realm="upstream"'})
        return text(f"for bearers: {rest[0]}")

    def _query(self, request: Request, rest: list[str]) -> Answer:
        if dict(request.query).get("token") != QUERY_TOKEN:
            return text("which token?", status=403)
        return text(f"for the token: {rest[0]}")

    def _cookie_login(self, request: Request, rest: list[str]) -> Answer:
        cookie = self._issued.make("cookie")
        return text("welcome", headers={"Set-Cookie": f"session={cookie}; Path=/; Secure; HttpOnly"})

    def _cookie(self, request: Request, rest: list[str]) -> Answer:
        if not self._issued.is_for(request.header("Cookie").removeprefix("session="), "cookie"):
            return text("log in first", status=403)
        return text(f"for the session: {rest[0]}")

    def _token(self, request: Request, rest: list[str]) -> Answer:
        granted = {"access_token": self._issued.make("token"), "token_type": "bearer", "expires_in": 300}
        return Answer(body=json.dumps(granted).encode(), headers=_JSON)

    def _plain_token(self, request: Request, rest: list[str]) -> Answer:
        return text(self._issued.make("token"))

    def _api(self, request: Request, rest: list[str]) -> Answer:
        if not self._issued.is_for(request.header("Authorization").removeprefix("Bearer "), "token"):
            return text("no such token", status=401)
        return text(f"from the API: {rest[0]}")

    # -- what was sent

    def _form(self, request: Request, rest: list[str]) -> Answer:
        return text(" ".join(f"{name}={value}" for name, value in sorted(parse_qsl(request.body.decode()))))

    def _json(self, request: Request, rest: list[str]) -> Answer:
        return Answer(body=json.dumps({"sum": sum(json.loads(request.body))}).encode(), headers=_JSON)

    def _count(self, request: Request, rest: list[str]) -> Answer:
        return text(str(next(self._numbers)))

    def _headers(self, request: Request, rest: list[str]) -> Answer:
        return text("\n".join(sorted(f"{name}: {value}" for name, value in request.headers.items())))

    # -- trouble

    def _moving(self, request: Request, rest: list[str]) -> Answer:
        return text(f"{rest[0]} is {'new' if (self._folder / MOVED).exists() else 'old'}")

    def _flaky(self, request: Request, rest: list[str]) -> Answer:
        with self._lock:
            is_first = rest[0] not in self._seen
            self._seen.add(rest[0])
        return text("not now", status=500) if is_first else text(f"{rest[0]} after all")

    def _status(self, request: Request, rest: list[str]) -> Answer:
        return text(f"status {rest[0]}", status=int(rest[0]))

    def _cut(self, request: Request, rest: list[str]) -> Answer:
        return Answer(chunks=[content(rest[0], 1000)], length=5000, headers=_OCTETS)
