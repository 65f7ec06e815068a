"""Sets up network interfaces, addresses and routes: rtnetlink(7), spoken here, as not every machine has ip(8).

A `RouteSocket` belongs to the network namespace that its process was in when it was made, wherever the process goes
afterwards. Each request is answered before its method returns, and raises OSError as the kernel says.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from types import TracebackType
from typing import Final

__all__ = ["LOOPBACK", "End", "RouteSocket"]

LOOPBACK: Final = 1
"""The index of `lo`, the first interface of every namespace."""

# linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, neighbour.h, veth.h
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR: Final = 2
_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE, _NEW_NEIGHBOUR = 16, 20, 24, 28
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 1, 3, 4, 18, 26, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_INET6_ADDR_GEN_MODE, _NO_ADDRESS = 8, 1
_IFF_UP: Final = 0x1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _NO_DUPLICATE_DETECTION = 1, 2, 8, 0x02
_RTA_DESTINATION, _RTA_INTERFACE, _RTA_GATEWAY = 1, 4, 5
_MAIN_TABLE, _LOCAL_TABLE = 254, 255
_STATIC: Final = 4
_UNIVERSE, _LINK, _HOST = 0, 253, 254
_UNICAST, _LOCAL = 1, 2
_NDA_DESTINATION, _NDA_ADDRESS, _PERMANENT = 1, 2, 0x80


class End:
    """One end of a cable: the interface's index and name, and its hardware address."""

    def __init__(self, *, index: int, name: str, address: bytes, mtu: int) -> None:
        self.index = index
        self._attributes = (
            _attribute(_IFLA_IFNAME, name.encode() + b"\0")
            + _attribute(_IFLA_ADDRESS, address)
            + _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        )
        self.address = address

    def message(self, *attributes: bytes) -> bytes:
        return struct.pack("=BxHiII", 0, 0, self.index, 0, 0) + self._attributes + b"".join(attributes)


class RouteSocket:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def add_cable(self, here: End, there: End, namespace: int) -> None:
        """Makes a veth pair (veth(4)): one end in this namespace, the other in that of the descriptor `namespace`."""
        peer = there.message(_attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace)))
        info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, peer))
        self._request(_NEW_LINK, here.message(_attribute(_IFLA_LINKINFO, info)), flags=_CREATE | _EXCLUSIVE)

    def bring_up(self, index: int) -> None:
        self._request(_NEW_LINK, struct.pack("=BxHiII", 0, 0, index, _IFF_UP, _IFF_UP))

    def disable_own_ipv6_addresses(self, index: int) -> None:
        """The kernel gives an interface no address of its own accord, and asks no neighbours about it."""
        mode = _attribute(_INET6_ADDR_GEN_MODE, struct.pack("=B", _NO_ADDRESS))
        specific = _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, mode))
        self._request(_NEW_LINK, struct.pack("=BxHiII", 0, 0, index, 0, 0) + specific)

    def add_address(self, index: int, address: IPv4Interface | IPv6Interface) -> None:
        flags = _NO_DUPLICATE_DETECTION if address.version == 6 else 0
        body = struct.pack("=BBBBI", _family(address), address.network.prefixlen, 0, _UNIVERSE, index)
        body += _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
        body += _attribute(_IFA_FLAGS, struct.pack("=I", flags))
        self._request(_NEW_ADDRESS, body, flags=_CREATE | _EXCLUSIVE)

    def add_default_route(self, index: int, gateway: IPv4Address | IPv6Address) -> None:
        body = struct.pack("=BBBBBBBBI", _family(gateway), 0, 0, 0, _MAIN_TABLE, _STATIC, _UNIVERSE, _UNICAST, 0)
        body += _attribute(_RTA_INTERFACE, struct.pack("=I", index)) + _attribute(_RTA_GATEWAY, gateway.packed)
        self._request(_NEW_ROUTE, body, flags=_CREATE | _EXCLUSIVE)

    def take_all(self, everything: IPv4Network | IPv6Network, *, but: IPv4Network | IPv6Network, index: int) -> None:
        """Has the namespace take packets for every address as its own, but for those it sends out of `index`."""
        for network, interface, scope, kind in (
            (everything, LOOPBACK, _HOST, _LOCAL),
            (but, index, _LINK, _UNICAST),
        ):
            prefix = network.prefixlen
            body = struct.pack("=BBBBBBBBI", _family(network), prefix, 0, 0, _LOCAL_TABLE, _STATIC, scope, kind, 0)
            body += _attribute(_RTA_DESTINATION, network.network_address.packed)
            body += _attribute(_RTA_INTERFACE, struct.pack("=I", interface))
            self._request(_NEW_ROUTE, body, flags=_CREATE)

    def add_neighbour(self, index: int, address: IPv4Address | IPv6Address, hardware: bytes) -> None:
        """Says which hardware address an address has, for good: nobody has to ask for it."""
        body = struct.pack("=BxxxiHBB", _family(address), index, _PERMANENT, 0, _UNICAST)
        body += _attribute(_NDA_DESTINATION, address.packed) + _attribute(_NDA_ADDRESS, hardware)
        self._request(_NEW_NEIGHBOUR, body, flags=_CREATE)

    def _request(self, kind: int, body: bytes, *, flags: int = 0) -> None:
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            reply = self._socket.recv(1 << 16)
            _, kind_of_reply, _, sequence, _ = struct.unpack_from("=IHHII", reply)
            if kind_of_reply == _ERROR and sequence == self._sequence:
                break
        (error,) = struct.unpack_from("=i", reply, 16)
        if error:
            raise OSError(-error, os.strerror(-error))


def _attribute(kind: int, content: bytes) -> bytes:
    length = 4 + len(content)
    return struct.pack("=HH", length, kind) + content + bytes(-length % 4)


def _family(address: IPv4Address | IPv6Address | IPv4Network | IPv6Network) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
