"""The proxy that the environment names for a URL, read as docker, curl and uv read these variables.

`HTTPS_PROXY`, `HTTP_PROXY`, else `ALL_PROXY`, except for the hosts of `NO_PROXY`. A variable in lower case comes first.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from klock.errors import FetchError

__all__ = ["is_loopback", "proxy_of"]


def proxy_of(url: str) -> str | None:
    """The URL of the proxy for `url`, or None. Raises FetchError for one that klock cannot speak to."""
    from urllib.request import getproxies

    named = getproxies()
    parts = urlsplit(url)
    found = named.get(parts.scheme) or named.get("all")
    host = (parts.hostname or "").rstrip(".")
    if not found or is_loopback(host) or _is_excepted(host, parts.port, named.get("no", "")):
        return None
    proxy = found if "://" in found else f"http://{found}"
    try:
        scheme, place = urlsplit(proxy).scheme.lower(), urlsplit(proxy).hostname
    except ValueError:
        scheme, place = "", None
    if scheme not in ("http", "https") or not place:
        # A proxy's URL may hold a password.
        raise FetchError(
            f"the proxy that the environment names for {host} is not an http or https URL",
            hint=f"set {parts.scheme}_proxy to http://HOST:PORT, or add {host} to no_proxy",
        )
    return proxy


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine, for which alone klock uses plain http without being asked."""
    import ipaddress

    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_excepted(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether the list has the host: by `*`, its name or one above it, its address or network, and perhaps its port."""
    return any(_matches(entry, host, port) for entry in no_proxy.replace(",", " ").lower().split())


def _matches(entry: str, host: str, port: int | None) -> bool:
    import ipaddress

    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal():
        return port == int(number) and _matches(name.strip("[]"), host, port)
    name = entry.removeprefix("*").removeprefix(".")
    return host == name or host.endswith(f".{name}")
