"""What the recorder's packet socket sees of a cable: packets that begin something, in IPv4 and IPv6.

A packet is read from its network header on, as a packet socket of type SOCK_DGRAM does (packet(7)). Questions to the
cable's own name server are not shown, as they are answered, nor is what the kernel sends by itself: neighbour
discovery, multicast reports.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from klock.workshop.bpf import (
    Program,
    assembled,
    give,
    load,
    load_after_header,
    mask,
    measure_header,
    when,
    when_any,
    when_set,
)
from klock.workshop.command import RESOLVER

__all__ = ["SHOWN", "packet_filter"]

SHOWN: Final = 256
"""Bytes of each packet that are shown: more than all headers."""

_ETHERTYPE: Final = -0x1000  # SKF_AD_OFF + SKF_AD_PROTOCOL
_DIRECTION: Final = -0x1000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_OUTGOING: Final = 4
_IPV4, _IPV6 = 0x0800, 0x86DD
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_EXTENSIONS: Final = (43, 44, 60)  # routing, fragment and destination options
_ECHO, _ECHO_V6 = 8, 128
_SYN, _SYN_OR_ACK = 0x02, 0x12
_LATER_FRAGMENT: Final = 0x1FFF
_DNS: Final = 53


def packet_filter() -> bytes:
    """The filter as an array of `struct sock_filter`, for SO_ATTACH_FILTER (socket(7))."""
    return assembled(
        [
            *load(_DIRECTION),
            *when(_OUTGOING, _hide()),
            *load(_ETHERTYPE),
            *when(_IPV4, _of_ipv4()),
            *when(_IPV6, _of_ipv6()),
            *_hide(),
        ]
    )


def _of_ipv4() -> Program:
    whole = [*load(6, size=2), *when_set(_LATER_FRAGMENT, _hide()), *measure_header(0)]
    to_resolver = [*load(16), *when(int(ipaddress.IPv4Address(RESOLVER)), _hide())]
    return [
        *load(9, size=1),
        *when(_TCP, [*whole, *load_after_header(13, size=1), *_if_first_segment()]),
        *when(_UDP, [*whole, *load_after_header(2, size=2), *when(_DNS, to_resolver), *_show()]),
        *when(_ICMP, [*whole, *load_after_header(0, size=1), *when(_ECHO, _show())]),
        *_hide(),
    ]


def _of_ipv6() -> Program:
    return [
        *load(6, size=1),
        *when(_TCP, [*load(40 + 13, size=1), *_if_first_segment()]),
        *when(_ICMPV6, [*load(40, size=1), *when(_ECHO_V6, _show()), *_hide()]),
        *when_any((_UDP, *_EXTENSIONS), _show()),
        *_hide(),
    ]


def _if_first_segment() -> Program:
    return [*mask(_SYN_OR_ACK), *when(_SYN, _show()), *_hide()]


def _show() -> Program:
    return give(SHOWN)


def _hide() -> Program:
    return give(0)
