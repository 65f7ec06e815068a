"""Pools of connections to HTTP servers: through the proxy the environment names, TLS verified as the host does it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from klock.errors import FetchError
from klock.proxies import is_loopback, proxy_of

if TYPE_CHECKING:
    import socket
    import ssl

    from urllib3 import BaseHTTPResponse, PoolManager, Retry
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

__all__ = [
    "CONNECTING",
    "SILENCE",
    "SILENT_TRIES",
    "Pools",
    "client_context",
    "connected",
    "is_near",
    "is_silence",
    "reason_of",
    "refuse_redirect",
    "retries",
]

_STAYS_WRONG: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
"""Errors of TLS that no other try would fix: a certificate that is not trusted, a server that does not speak TLS."""
_LONGEST_WAIT: Final = 60.0
"""Seconds that a server may have klock wait before it is asked again."""
CONNECTING: Final = 15.0
"""Seconds that a server has to take a connection."""
_SHARE: Final = 2.0
"""The least number of seconds for each address of a host."""
SILENCE: Final = 60.0
"""Seconds without a byte of an answer. A proxy that first fetches the answer itself may need that long."""
SILENT_TRIES: Final = 2
"""klock gives up after so many silent tries. One proves nothing: a firewall may have forgotten an idle connection."""


class Pools:
    """One urllib3 pool manager for each proxy, and one without; any thread may use it.

    `ca_bundle` is trusted besides what the host trusts. `direct` and `proxied` are the classes of pools, by scheme, for
    connections that go through no proxy, or through one. With `block`, at most 8 requests a host are under way at once.
    """

    def __init__(
        self,
        *,
        ca_bundle: Path | None = None,
        direct: dict[str, type[HTTPConnectionPool]] | None = None,
        proxied: dict[str, type[HTTPConnectionPool]] | None = None,
        block: bool = False,
    ) -> None:
        self._ca_bundle = ca_bundle
        self._direct = direct
        self._proxied = proxied
        self._block = block
        self._lock = threading.Lock()
        self._managers: dict[str | None, PoolManager] = {}

    def for_url(self, url: str) -> PoolManager:
        """Straight to the host, or through the proxy the environment names for it (`https_proxy`, `no_proxy`)."""
        proxy = proxy_of(url)
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = self._new_manager(proxy)
            return self._managers[proxy]

    def close(self) -> None:
        """Closes all idle connections."""
        for manager in self._managers.values():
            manager.clear()

    def _new_manager(self, proxy: str | None) -> PoolManager:
        from urllib3 import PoolManager, ProxyManager, Timeout, make_headers

        options: dict[str, Any] = {
            "timeout": Timeout(connect=CONNECTING, read=SILENCE),
            "maxsize": 8,
            "block": self._block,
        }
        if proxy is None:
            manager = PoolManager(**options)
            manager.pool_classes_by_scheme = self._with_tls(self._direct or manager.pool_classes_by_scheme)
            return manager
        parts = urlsplit(proxy)
        credentials = unquote(f"{parts.username}:{parts.password or ''}") if parts.username else None
        proxy_manager = ProxyManager(
            proxy, proxy_headers=make_headers(proxy_basic_auth=credentials) if credentials else None, **options
        )
        proxy_manager.pool_classes_by_scheme = self._with_tls(self._proxied or proxy_manager.pool_classes_by_scheme)
        return proxy_manager

    def _with_tls(self, pools: Mapping[str, Callable[..., HTTPConnectionPool]]) -> dict[str, Any]:
        """The pools by scheme. To load the certificates of the host takes longer than a request: only https waits."""

        def https(*place: Any, **options: Any) -> HTTPConnectionPool:
            return pools["https"](*place, ssl_context=self._context, **options)

        return {**pools, "https": https}

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return client_context(self._ca_bundle)


def connected(connection: HTTPConnection, addresses: Sequence[tuple[int, Any]]) -> socket.socket:
    """A socket to the first of the host's addresses (family, place) that takes the connection.

    The addresses share the connection's timeout, as with Go's dialer: a host may have a dozen, and if a firewall drops
    everything, each would cost a timeout. Raises urllib3's ConnectTimeoutError, NewConnectionError.
    """
    import socket

    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    seconds = float(connection.timeout or CONNECTING)
    until = time.monotonic() + seconds
    failure: OSError = OSError("it has no address")
    for number, (family, place) in enumerate(addresses):
        try:
            made = socket.socket(socket.AddressFamily(family), socket.SOCK_STREAM)
        except OSError as error:
            failure = error
            continue
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(max(_SHARE, (until - time.monotonic()) / (len(addresses) - number)))
            made.connect(place)
            made.settimeout(seconds)
            sys.audit("http.client.connect", connection, connection.host, connection.port)
            return made
        except OSError as error:
            made.close()
            failure = error
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, "no answer") from failure
    raise NewConnectionError(connection, f"no connection: {failure}") from failure


def retries(**options: Any) -> Retry:
    """urllib3's retries, within limits.

    - They follow no redirect from elsewhere to this machine, or to an address that only its link reaches: klock would
      ask in the user's network for a stranger. Raises FetchError then.
    - If a server says when to come back (`Retry-After`), they wait a minute at most.
    - They give up a silent server sooner than one whose connections break, since each silent try takes a minute.
    """
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader, MaxRetryError, SSLError

    class Careful(Retry):
        def increment(self, *args: Any, **values: Any) -> Retry:  # type: ignore[override]
            error = values.get("error")
            if isinstance(error, SSLError) and any(word in str(error) for word in _STAYS_WRONG):
                raise error
            if is_silence(error) and sum(is_silence(past.error) for past in self.history) + 1 >= SILENT_TRIES:
                raise MaxRetryError(values["_pool"], values.get("url"), error) from error
            response = values.get("response")
            location = response.get_redirect_location() if response is not None else None
            if location:
                url, pool = values.get("url") or (args[1] if len(args) > 1 else ""), values.get("_pool")
                refuse_redirect(urlsplit(url or "").hostname or getattr(pool, "host", "") or "", location)
            return super().increment(*args, **values)

        def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
            try:
                told = super().get_retry_after(response)
            except (InvalidHeader, ValueError, OverflowError):  # a number of thousands of digits, a year that is none
                return None
            return None if told is None else min(told, _LONGEST_WAIT)

    return Careful(**options)


def refuse_redirect(origin: str, location: str) -> None:
    """Raises FetchError where the host `origin` sends to a URL that it has no business with."""
    try:
        parts = urlsplit(location)
        host, scheme = parts.hostname or origin, parts.scheme or "http"
    except ValueError:
        raise FetchError(f"{origin} redirects to {location[:200]!r}, which is not a URL") from None
    if scheme not in ("http", "https"):
        raise FetchError(f"{origin} redirects to a URL of the kind {scheme}:, which klock does not follow")
    if is_near(host) and not is_near(origin):
        raise FetchError(
            f"{origin} redirects to {host}, which is this machine or a link-local address; klock does not follow that",
            hint="find out who changed the server; if you want that server, name its address yourself",
        )


def is_near(host: str) -> bool:
    """Whether a host is this machine, or an address that only its link reaches, such as a cloud's metadata service."""
    import ipaddress
    import socket

    if is_loopback(host):
        return True
    try:
        # As resolvers do, which read `127.1` and `0x7f000001` too.
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(socket.inet_aton(host))
    except (OSError, ValueError):
        try:
            address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
        except ValueError:
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)


def client_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """TLS that trusts what the host trusts, and besides that the certificates of `ca_bundle`, a PEM file.

    Raises FetchError when that cannot be read.
    """
    import ssl

    # The default context reads the host's CA folder, or what SSL_CERT_FILE and SSL_CERT_DIR say.
    context = ssl.create_default_context()
    if ca_bundle is not None:
        try:
            context.load_verify_locations(ca_bundle)
        except OSError as error:
            raise FetchError(f"cannot read the ca-bundle {ca_bundle}: {error.strerror or error}") from error
    return context


def is_silence(error: BaseException | None) -> bool:
    """Whether a server took the connection, and then sent nothing, or next to nothing, until klock stopped waiting."""
    from urllib3.exceptions import ReadTimeoutError

    while error is not None and not isinstance(error, ReadTimeoutError):
        error = _inner(error)
    return error is not None


def reason_of(error: BaseException) -> str:
    """Why a request failed, in few words: the innermost of a chain of exceptions says it best."""
    cause = error
    while (inner := _inner(cause)) is not None:
        cause = inner
    if problem := getattr(cause, "verify_message", None):
        return f"the TLS certificate is not trusted ({problem})"
    if said := getattr(cause, "strerror", None):
        return str(said)
    if isinstance(cause, TimeoutError):
        return "it takes connections, but sends nothing" if is_silence(error) else "it does not answer"
    _, is_tunnel, refusal = str(cause).partition("Tunnel connection failed: ")  # so says http.client
    return f"the proxy answers {refusal}" if is_tunnel else type(cause).__name__


def _inner(error: BaseException) -> BaseException | None:
    """What an exception is about; urllib3 keeps it in one of these places."""
    places = (getattr(error, "reason", None), error.__cause__, *error.args)
    return next((place for place in places if isinstance(place, Exception)), None)
