"""One GET, with pooled connections, retries and the user's proxies. Usable from several threads."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from klock.connections import client_context, retries

if TYPE_CHECKING:
    import urllib3

__all__ = ["request"]

_AT_ONCE: Final = 8
"""Connections to one host."""


def request(
    url: str, *, headers: Mapping[str, str], ca_bundle: Path | None = None, preload_content: bool = True
) -> urllib3.BaseHTTPResponse:
    """GETs `url` with pooled connections and retries, through the proxy that the environment variables name for it.

    The certificates of `ca_bundle`, a PEM file, are trusted besides the host's.
    """
    from urllib.request import getproxies, proxy_bypass

    from urllib3.exceptions import HTTPError, LocationParseError

    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and proxy_bypass(parts.netloc.rpartition("@")[2]):
        proxy = None
    headers = {"User-Agent": "klock", **headers}
    try:
        return _pool(proxy, ca_bundle).request("GET", url, headers=headers, preload_content=preload_content)
    except HTTPError:
        raise
    except ValueError as error:  # of a redirect
        raise LocationParseError(str(error)) from error


@functools.lru_cache(maxsize=4)
def _pool(proxy: str | None, ca_bundle: Path | None) -> urllib3.PoolManager:
    import urllib3

    again = (429, 500, 502, 503, 504)
    careful = retries(total=5, connect=3, backoff_factor=0.3, status_forcelist=again, raise_on_status=False)
    timeout = urllib3.Timeout(connect=15, read=60)
    context = client_context(ca_bundle)
    if proxy is None:
        return urllib3.PoolManager(
            num_pools=16, maxsize=_AT_ONCE, retries=careful, timeout=timeout, ssl_context=context
        )
    return urllib3.ProxyManager(
        proxy, num_pools=16, maxsize=_AT_ONCE, retries=careful, timeout=timeout, ssl_context=context
    )
