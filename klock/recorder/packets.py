"""What a step tried to reach, read off the first packet of each connection, so that a refusal can name it.

Packets come from a cooked packet socket (packet(7), SOCK_DGRAM): from the network header on, perhaps cut off. They are
the step's own, so any byte may be hostile. (RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443.)
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal, TypeAlias

from klock.values import dataclass

__all__ = ["ConnectionAttempt", "Protocol", "read_attempt"]

Protocol: TypeAlias = Literal["tcp", "udp", "icmp"]

_ETHERTYPE_IPV4: Final = 0x0800
_ETHERTYPE_IPV6: Final = 0x86DD
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_ECHO_REQUEST, _ECHO_REQUEST_V6 = 8, 128
_SYN, _ACK = 0x02, 0x10

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION_OPTIONS = 0, 43, 44, 51, 60
_MOST_EXTENSIONS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionAttempt:
    """Where a packet was sent to. `address` in its usual spelling; `port` is None for ICMP, of both versions."""

    protocol: Protocol
    address: str
    port: int | None


def read_attempt(packet: bytes, ethertype: int) -> ConnectionAttempt | None:
    """What a packet begins: a TCP connection, a UDP datagram, an echo request; None for any other or a malformed one.

    Of a datagram in fragments only the first one says which port is meant.
    """
    if ethertype == _ETHERTYPE_IPV4:
        return _read_ipv4(packet)
    if ethertype == _ETHERTYPE_IPV6:
        return _read_ipv6(packet)
    return None


def _read_ipv4(packet: bytes) -> ConnectionAttempt | None:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    header_size = (packet[0] & 0x0F) * 4
    fragment_offset = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
    if header_size < 20 or fragment_offset:
        return None
    address = str(IPv4Address(packet[16:20]))
    if packet[9] == _ICMP:
        return _read_echo(packet[header_size:], _ECHO_REQUEST, address)
    return _read_transport(packet[9], packet[header_size:], address)


def _read_ipv6(packet: bytes) -> ConnectionAttempt | None:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return None
    address = str(IPv6Address(packet[24:40]))
    protocol, position = packet[6], 40
    for _ in range(_MOST_EXTENSIONS):
        if protocol not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION_OPTIONS):
            break
        if position + 8 > len(packet):
            return None
        if protocol == _FRAGMENT:
            if struct.unpack_from("!H", packet, position + 2)[0] & 0xFFF8:
                return None
            size = 8
        elif protocol == _AUTHENTICATION:
            size = (packet[position + 1] + 2) * 4
        else:
            size = (packet[position + 1] + 1) * 8
        protocol, position = packet[position], position + size
    if protocol == _ICMPV6:
        return _read_echo(packet[position:], _ECHO_REQUEST_V6, address)
    return _read_transport(protocol, packet[position:], address)


def _read_echo(message: bytes, request: int, address: str) -> ConnectionAttempt | None:
    return ConnectionAttempt(protocol="icmp", address=address, port=None) if message[:1] == bytes([request]) else None


def _read_transport(protocol: int, segment: bytes, address: str) -> ConnectionAttempt | None:
    if len(segment) < 4:
        return None
    port: int = struct.unpack_from("!H", segment, 2)[0]
    if protocol == _UDP:
        return ConnectionAttempt(protocol="udp", address=address, port=port)
    if protocol == _TCP:
        # Where the packet is cut off before the flags, the kernel's filter has seen to it that it is the first one.
        begins = len(segment) < 14 or segment[13] & (_SYN | _ACK) == _SYN
        return ConnectionAttempt(protocol="tcp", address=address, port=port) if begins else None
    return None
