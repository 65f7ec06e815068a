"""HTTP as downloads need it: retries with patience, redirects that keep secrets at home, bodies that resume.

What arrives here is not trusted: who asks knows a digest and compares.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from klock.connections import CONNECTING, SILENCE, SILENT_TRIES, Pools, is_silence, reason_of, retries
from klock.errors import FetchError, OutOfTime
from klock.fetching.pace import paced_pools
from klock.values import dataclass

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

__all__ = ["Response", "Transport", "Unreachable", "shared_transport"]

_CHUNK: Final = 1 << 18
_ATTEMPTS: Final = 5
_CONNECTING: Final = 2
"""How often a connection is tried again. Few times: a wrong name stays wrong, and the user waits."""
_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})
_PROGRESS: Final = 1 << 20
"""After so many bytes of a body klock counts tries anew, so that a large body arrives even over a poor line."""
_LONGEST_ANSWER: Final = 16 << 20
_LONGEST_READING: Final = 300.0
"""Seconds that an answer which is read as a whole may take from its headers on."""
_USER_AGENT: Final = "klock"


class Unreachable(FetchError):
    """A host did not answer at all, or the connection broke too often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    body: bytes


class Transport:
    """Connections to any host, usable from several threads. `pause` (seconds) is the unit of waiting between tries.

    `left` says how many seconds there are for what is still to be asked: then at most 8 requests a host are under way
    at once, and nobody is asked twice in a row. Raises OutOfTime when there are none.
    """

    def __init__(
        self, *, ca_bundle: Path | None = None, pause: float = 0.5, left: Callable[[], float] | None = None
    ) -> None:
        self._pause = pause
        self._left = left
        pools = paced_pools()
        self._pools = Pools(ca_bundle=ca_bundle, direct=pools, proxied=pools, block=left is not None)

    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: str = "",
        follow: bool = True,
    ) -> Response:
        """Asks and reads the whole answer, of whatever status, at most 16 MiB; with `follow`, that of what a redirect
        leads to. Raises FetchError when there is none."""
        return self._whole(url, self._open(method, url, headers or {}, body, follow=follow))

    def _whole(self, url: str, response: BaseHTTPResponse) -> Response:
        try:
            content = self._read(response, url)
        except _errors() as error:
            raise _unreachable(url, error) from error
        finally:
            response.release_conn()
        if len(content) > _LONGEST_ANSWER:
            raise FetchError(f"the answer from {_place(url)} is longer than {_LONGEST_ANSWER >> 20} MiB")
        return Response(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            challenges=tuple(response.headers.getlist("WWW-Authenticate")),
            body=content,
        )

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] = b"",
        *,
        seconds: float = SILENCE,
    ) -> Response:
        """Sends a body once, and reads the whole answer, whatever its status. The answer must begin within `seconds`.

        Follows no redirects. Raises FetchError when there is no answer: a caller that can resume then asks the server
        how much has arrived. A server may answer before it has read everything, if it does not want the body: that
        answer counts.
        """
        from urllib3 import Retry, Timeout

        once = Retry(total=0, redirect=False, raise_on_redirect=False, raise_on_status=False)
        try:
            response = self._pools.for_url(url).request(
                method,
                url,
                headers={"User-Agent": _USER_AGENT, **headers},
                body=body,
                retries=once,
                redirect=False,
                preload_content=False,
                timeout=Timeout(connect=CONNECTING, read=seconds),
            )
        except _errors() as error:
            raise _unreachable(url, error) from error
        return self._whole(url, response)

    def stream(
        self,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        *,
        on_refusal: Callable[[int, tuple[str, ...]], bool],
        has_hash: bool = True,
    ) -> Iterator[bytes]:
        """The bytes of a body. If a connection breaks, klock resumes there, unless several in a row bring next to
        nothing.

        `headers` is asked anew for each try. `on_refusal` gets a status other than 200 and its challenges, and returns
        whether to try again, or raises. Without `has_hash` nobody would see that the bytes are of two versions of a
        file: then it is a FetchError if the file changes meanwhile.
        """
        received = counted = tries = silences = 0
        version = None
        while tries < _ATTEMPTS:
            resume = {"Range": f"bytes={received}-"} if received else {}
            response = self._open("GET", url, {**headers(), **resume}, "")
            tries += 1
            try:
                if response.status not in (200, 206):
                    if not on_refusal(response.status, tuple(response.headers.getlist("WWW-Authenticate"))):
                        raise FetchError(f"{_place(url)} answered with status {response.status}")
                    continue
                if not received:
                    version = _version(response)
                elif not has_hash and _version(response) != version:
                    raise FetchError(f"{_place(url)} has another file than a moment ago", hint="run the command again")
                skip = received if response.status == 200 else 0
                while chunk := response.read1(_CHUNK, decode_content=False):
                    new, skip = chunk[skip:], max(0, skip - len(chunk))
                    received += len(new)
                    if new:
                        yield new
                return
            except _errors() as error:
                if received - counted >= _PROGRESS:
                    counted, tries, silences = received, 1, 0
                silences += is_silence(error)
                if tries == _ATTEMPTS or silences == SILENT_TRIES:
                    raise _unreachable(url, error) from error
                time.sleep(self._pause * 2 ** (tries - 1))
            finally:
                # An unread body would block the connection for the next request.
                response.close()
        raise FetchError(f"{_place(url)} refused {_ATTEMPTS} times")

    def close(self) -> None:
        """Closes all idle connections."""
        self._pools.close()

    def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: str, *, follow: bool = True
    ) -> BaseHTTPResponse:
        # Authorization is dropped by urllib3 when a redirect leaves the host, the port or the scheme.
        patient: dict[str, Any] = {
            "total": _ATTEMPTS,
            "connect": _CONNECTING,
            "status_forcelist": _BUSY,
            "backoff_factor": self._pause,
            # Of many machines that a busy registry turned away not all come back in the same moment.
            "backoff_jitter": self._pause,
            "backoff_max": 20,
        }
        hasty: dict[str, Any] = {"total": _ATTEMPTS, "connect": 0, "read": 0, "status": 0}
        careful = retries(
            redirect=5, allowed_methods=None, raise_on_status=False, **(patient if self._left is None else hasty)
        )
        try:
            response = self._pools.for_url(url).request(
                method,
                url,
                headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **headers},
                body=body or None,
                retries=careful,
                redirect=follow,
                preload_content=False,
                **self._limit(url),
            )
        except _errors() as error:
            raise _unreachable(url, error) from error
        except ValueError as error:
            raise FetchError(f"{_place(url)} redirects to what is not a URL: {error}") from error
        if url.startswith("https:") and (response.url or "").startswith("http:"):
            response.close()
            raise FetchError(f"{_place(url)} redirects from https to http; klock does not follow that")
        return response

    def _read(self, response: BaseHTTPResponse, url: str) -> bytes:
        """At most some bytes more than an answer may have."""
        content = bytearray()
        until = time.monotonic() + _LONGEST_READING
        while len(content) <= _LONGEST_ANSWER and (chunk := response.read1(_CHUNK, decode_content=True)):
            content += chunk
            if self._left is not None and self._left() <= 0:
                raise OutOfTime(f"{_place(url)} did not answer in time")
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, "its answer does not end")
        return bytes(content)

    def _limit(self, url: str) -> dict[str, Any]:
        if self._left is None:
            return {}
        from urllib3 import Timeout

        left = self._left()
        if left <= 0:
            raise OutOfTime(f"there was no time left to ask {_place(url)}")
        return {"timeout": Timeout(connect=min(10.0, left), read=min(30.0, left)), "pool_timeout": left}


def _version(response: BaseHTTPResponse) -> tuple[str | None, str | None]:
    """What tells one version of a file from another (RFC 9110, 8.8), as far as the server says it."""
    return response.headers.get("ETag"), response.headers.get("Last-Modified")


@functools.lru_cache(maxsize=4)
def shared_transport(ca_bundle: Path | None) -> Transport:
    """One transport for all requests of a process, which keeps connections between them."""
    return Transport(ca_bundle=ca_bundle)


# Of two processes that read from one connection each may get the other's answer.
os.register_at_fork(after_in_child=shared_transport.cache_clear)


def _errors() -> tuple[type[Exception], ...]:
    from urllib3.exceptions import HTTPError

    return (HTTPError, OSError)


def _place(url: str) -> str:
    """The URL without a query: blob storage signs its URLs there."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _unreachable(url: str, error: Exception) -> Unreachable:
    host, reason = urlsplit(url).netloc.rpartition("@")[2], reason_of(error)
    if "TLS certificate" in reason:
        hint = "if the host has a private CA, set ca-bundle"
    elif "WRONG_VERSION_NUMBER" in reason:
        hint = f'the host does not speak TLS; if that is intended, set registry-mirrors: "{host}" = "http://{host}"'
    elif is_silence(error):
        hint = "it may hang, or a firewall may hold back its answers: try again later, or use a mirror (docs/bases.md)"
    else:
        hint = (
            "check the host's name, the network and the proxy settings; docs/bases.md has mirrors, and bases without a "
            "registry"
        )
    return Unreachable(f"cannot reach {host}: {reason}", hint=hint)
