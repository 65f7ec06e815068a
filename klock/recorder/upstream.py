"""Requests to the real servers: whole bodies, with retries, and never to an address of this machine."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from klock.connections import SILENT_TRIES, Pools, is_silence, reason_of
from klock.errors import FetchError
from klock.proxies import proxy_of
from klock.recorder.addresses import ForbiddenAddress, is_literal, look_up
from klock.recorder.doors import Where
from klock.recorder.exchange import Refused, Request
from klock.recorder.incoming import ATTEMPTS, PAUSE, Incoming, connection_errors
from klock.recorder.report import Notes

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPHeaderDict

__all__ = ["Unreachable", "Upstream"]

_LONGEST_PAUSE: Final = 5.0
_ADDRESSES_LAST: Final = 60.0
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_SWITCHING_PROTOCOLS: Final = 101
_MOST_DIGITS: Final = 18
_PORTS: Final = {"http": 80, "https": 443}
_NOTHING: Final[Mapping[str, str]] = {}
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

# RFC 9110, 7.6.1, and what belongs to the connection with the proxy that a client may take klock for.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"proxy-authorization"}
)
_REPLACED: Final = frozenset({"host", "content-length", "expect"})
# Where the whole body is asked for, whatever the client has of it and however it wants it: the store serves the rest.
_OF_A_PART: Final = frozenset(
    {"accept-encoding", "range", "if-range"} | {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)


class Unreachable(Exception):
    """Upstream gave no answer; the text says why."""


class Upstream:
    """The real servers, for any number of threads.

    `ca_bundle` is trusted besides the host's certificates. `local_hosts` are the names that may lead to this machine,
    as may `origins`, hosts and ports, which may also be addresses.
    """

    def __init__(
        self,
        *,
        notes: Notes,
        ca_bundle: Path | None = None,
        local_hosts: Collection[str] = (),
        origins: Collection[Where] = (),
    ) -> None:
        from klock.recorder.pools import pools_by_scheme

        self._notes = notes
        self._local_hosts = frozenset(local_hosts)
        self._origins = frozenset(origins)
        self._lock = threading.Lock()
        self._addresses: dict[tuple[str, bool], tuple[float, Sequence[tuple[int, str]]]] = {}
        self._left_to_proxy: set[str] = set()
        direct, proxied = pools_by_scheme(self._look_up)
        self._pools = Pools(ca_bundle=ca_bundle, direct=direct, proxied=proxied, block=True)

    def has_name(self, name: str) -> bool:
        """Whether a name has an address. Raises Refused when the address is forbidden."""
        import socket

        try:
            return bool(self._look_up(name, 443))
        except ForbiddenAddress as error:
            raise Refused(f"{error}, which steps may not reach") from error
        except socket.gaierror as error:
            if any(_has_proxy(f"{scheme}://{name}/") for scheme in ("http", "https")):
                return True  # the proxy knows names that this machine does not
            if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                return False
            raise Refused(f"no name server could be asked ({error.strerror})") from error
        except (OSError, UnicodeError):
            return False

    def fetch(self, request: Request) -> Incoming:
        """Asks, and returns the answer as soon as its headers are here. Raises Unreachable, Refused."""
        response = self._ask(request)
        return Incoming(
            status=response.status,
            headers=tuple(response.headers.items()),
            size=_announced(response),
            response=response,
            resume=lambda received, validator: self._ask_for_rest(request, received, validator),
            count=self._notes.count_bytes,
        )

    def pass_on(self, request: Request, extra: Mapping[str, str]) -> Incoming:
        """Asks for exactly what the client wants, with the headers `extra` besides. It is the client that asks again
        when an answer is a failure, or breaks off. Raises Unreachable, Refused.
        """
        response = self._ask(request, extra, whole=False)
        return Incoming(
            status=response.status,
            headers=tuple(response.headers.items()),
            size=_announced(response),
            response=response,
            resume=None,
            count=self._notes.count_bytes,
        )

    def close(self) -> None:
        self._pools.close()

    def _ask(self, request: Request, extra: Mapping[str, str] = _NOTHING, *, whole: bool = True) -> BaseHTTPResponse:
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError

        silences = 0
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            pause = PAUSE * 2**attempt
            try:
                response = self._open(request, extra, whole=whole)
            except FetchError as error:  # of a proxy, or of certificates, that cannot be used
                raise Unreachable(": ".join(filter(None, (error.message, error.hint)))) from error
            except connection_errors() as error:
                if forbidden := _forbidden(error):
                    raise Refused(forbidden) from error
                # The server may have carried out a request that is not a GET or HEAD.
                unsent = isinstance(error, NewConnectionError | ConnectTimeoutError)
                silences += is_silence(error)
                if last or silences == SILENT_TRIES or isinstance(error, SSLError) or not (request.is_safe or unsent):
                    raise Unreachable(f"upstream cannot be reached: {reason_of(error)}") from error
            else:
                if response.status == _SWITCHING_PROTOCOLS:
                    response.close()
                    raise Unreachable("upstream switched to a protocol other than HTTP/1.1")
                if last or response.status not in _BUSY or not request.is_safe or not whole:
                    return response
                wait = response.headers.get("Retry-After", "")
                pause = max(pause, float(wait)) if wait.isdecimal() else pause
                if pause > _LONGEST_PAUSE:
                    return response
                response.close()
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _ask_for_rest(self, request: Request, received: int, validator: str | None) -> BaseHTTPResponse | None:
        """An answer with the rest of a body, or with all of it; None when there is none now."""
        if not request.is_safe:
            return None
        extra = {"Range": f"bytes={received}-", "If-Range": validator} if received and validator else {}
        try:
            response = self._open(request, extra)
        except connection_errors():
            return None
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {received}-")
        if response.status == 200 or (response.status == 206 and extra and begins):
            return response
        response.close()
        return None

    def _open(self, request: Request, extra: Mapping[str, str], *, whole: bool = True) -> BaseHTTPResponse:
        from urllib3 import ProxyManager

        parts = urlsplit(request.url)
        host = parts.hostname or ""
        is_named = (host, parts.port or _PORTS[parts.scheme]) in self._origins
        if not is_named and (is_literal(host) or host == "localhost" or host.endswith(".localhost")):
            raise Refused("an address, but steps may connect only to host names")
        manager = self._pools.for_url(request.url)
        if isinstance(manager, ProxyManager):
            self._check_proxied(host, parts.port or 443)
        self._notes.count_request()
        pool = manager.connection_from_host(host, parts.port, parts.scheme)
        # A plain request is sent to a proxy with its whole URL.
        proxy = manager if isinstance(manager, ProxyManager) and parts.scheme == "http" else None
        target = request.url if proxy else request.url[request.url.index("/", len(parts.scheme) + 3) :]
        # If one percent sign begins no escape, urllib3 encodes all percent signs, also those of real escapes.
        target = _LONE_PERCENT.sub("%25", target)
        headers = _sent_headers(request, whole=whole)
        headers.update(extra)
        if proxy:
            headers.update(proxy.proxy_headers)
        return pool.urlopen(
            request.method,
            target,
            body=request.body or None,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )

    def _check_proxied(self, name: str, port: int) -> None:
        """Raises Refused when this machine knows the name and its address is forbidden."""
        if name in self._left_to_proxy:
            return
        try:
            self._look_up(name, port)
        except ForbiddenAddress as error:
            raise Refused(f"{error}, which steps may not reach") from error
        except (OSError, UnicodeError):
            pass
        self._left_to_proxy.add(name)

    def _look_up(self, name: str, port: int) -> Sequence[tuple[int, str]]:
        is_local = name in self._local_hosts or (name, port) in self._origins
        with self._lock:
            since, addresses = self._addresses.get((name, is_local), (0.0, ()))
        now = time.monotonic()
        if not addresses or now - since > _ADDRESSES_LAST:
            addresses = look_up(name, port, is_local=is_local)
            with self._lock:
                self._addresses[name, is_local] = (now, addresses)
        return addresses


def _sent_headers(request: Request, *, whole: bool) -> HTTPHeaderDict:
    from urllib3 import HTTPHeaderDict
    from urllib3.util import SKIP_HEADER

    named = {name.strip().lower() for name in (request.header("connection") or "").split(",")}
    dropped = _HOP_BY_HOP | _REPLACED | named | (_OF_A_PART if whole else frozenset())
    headers = HTTPHeaderDict()
    for name, value in request.headers:
        if name.lower() not in dropped:
            headers.add(name, value)
    if "Accept-Encoding" not in headers:
        headers["Accept-Encoding"] = "identity"
    if "User-Agent" not in headers:
        headers["User-Agent"] = SKIP_HEADER
    if not request.body and not request.is_safe:
        headers["Content-Length"] = "0"
    return headers


def _announced(response: BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS and not chunked else None


def _has_proxy(url: str) -> bool:
    try:
        return proxy_of(url) is not None
    except FetchError:
        return True  # one that cannot be used, which who asks for the URL is told


def _forbidden(error: BaseException) -> str | None:
    """The forbidden address in a chain of exceptions, as text; None when there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ForbiddenAddress):
            return f"{cause}, which steps may not reach"
        cause = cause.__cause__ or getattr(cause, "reason", None)
    return None
