"""Which addresses a step may reach through klock: none that means this machine or its link.

A recorded step asks klock to connect for it. Without this rule it could talk to servers that listen for this machine
only, or to a cloud's metadata service, which hands out credentials to whoever asks from the machine.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["ForbiddenAddress", "check_address", "is_literal", "look_up"]

_FORBIDDEN: Final = (
    (IPv4Network("0.0.0.0/8"), "this machine"),
    (IPv4Network("127.0.0.0/8"), "this machine"),
    (IPv4Network("169.254.0.0/16"), "a link-local address"),
    (IPv4Network("224.0.0.0/4"), "a multicast address"),
    (IPv4Network("255.255.255.255/32"), "a broadcast address"),
    (IPv6Network("::/128"), "this machine"),
    (IPv6Network("::1/128"), "this machine"),
    (IPv6Network("fe80::/10"), "a link-local address"),
    (IPv6Network("ff00::/8"), "a multicast address"),
    (IPv6Network("fd00:ec2::254/128"), "a cloud's metadata service"),
)
_NAT64: Final = IPv6Network("64:ff9b::/96")


class ForbiddenAddress(Exception):
    """A name has an address that no step may reach; the text says which."""


def is_literal(host: str) -> bool:
    """Whether a host is written as an address, in any spelling that system resolvers take (inet_aton(3))."""
    try:
        ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    else:
        return True
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def check_address(text: str, *, is_local: bool = False) -> None:
    """Raises ForbiddenAddress for an address of this machine (unless `is_local`), of its link, or of no single host."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        # IPv4 inside IPv6: mapped (RFC 4291), 6to4 (RFC 3056), NAT64 (RFC 6052).
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    for network, what in _FORBIDDEN:
        if address in network and not (is_local and address.is_loopback):
            raise ForbiddenAddress(f"{text} is {what}")


def look_up(name: str, port: int, *, is_local: bool = False) -> Sequence[tuple[int, str]]:
    """The addresses of a name as (family, address), every one of them checked. Raises OSError, ForbiddenAddress.

    `is_local`: the name may lead to this machine. One address that is not allowed spoils the name: which of them is
    used may change from call to call.
    """
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys((int(family), str(place[0])) for family, _, _, _, place in found))
    for _, address in addresses:
        check_address(address, is_local=is_local)
    return addresses
