"""The names of the upstream's world, and a name server for them (RFC 1035) that knows no others."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from typing import Final

__all__ = ["ADDRESS", "NAMES", "RESOLVER", "ZONE", "serve_names"]

ZONE: Final = "upstream.test"
"""A name that the real Internet never has (RFC 6761)."""

ADDRESS: Final = "10.77.0.1"
"""Most names lead here. Not a loopback address: what leads to one is refused, and one test's names do."""

RESOLVER: Final = "10.77.0.53"
INDEX_ADDRESS: Final = "10.77.0.2"
STRANGER_ADDRESS: Final = "10.77.0.3"

NAMES: Final[dict[str, tuple[str, ...]]] = {
    f"files.{ZONE}": (ADDRESS,),
    f"other.{ZONE}": (ADDRESS,),
    f"debian.{ZONE}": (ADDRESS,),
    f"git.{ZONE}": (ADDRESS,),
    f"npm.{ZONE}": (ADDRESS,),
    f"pypi.{ZONE}": (INDEX_ADDRESS,),
    # Its certificate is signed by nobody that anyone trusts.
    f"stranger.{ZONE}": (STRANGER_ADDRESS,),
    # Nobody listens there.
    f"closed.{ZONE}": ("10.77.0.9",),
    # What a name server must not talk klock into.
    f"loopback.{ZONE}": ("127.0.0.1",),
    f"link-local.{ZONE}": ("169.254.169.254",),
    f"partly-loopback.{ZONE}": (ADDRESS, "127.0.0.1"),
    f"six.{ZONE}": ("2001:db8::1",),
}

_TYPES: Final = {1: ipaddress.IPv4Address, 28: ipaddress.IPv6Address}


def serve_names(address: str) -> None:
    """Answers on UDP port 53 of `address` until the process ends."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def serve() -> None:
        while True:
            query, client = server.recvfrom(4096)
            server.sendto(_answer(query), client)

    threading.Thread(target=serve, daemon=True).start()


def _answer(query: bytes) -> bytes:
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii").lower())
        at += 1 + query[at]
    question = query[12 : at + 5]
    (kind,) = struct.unpack_from("!H", query, at + 1)
    name = ".".join(labels)
    found = [address for address in map(ipaddress.ip_address, NAMES.get(name, ())) if type(address) is _TYPES.get(kind)]
    records = b"".join(
        struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(address.packed)) + address.packed for address in found
    )
    # An answer with authority, recursion available; 3 is NXDOMAIN.
    flags = 0x8580 | (0 if name in NAMES else 3)
    return query[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0) + question + records
