"""What a step tried to reach, read off real packets, cut off ones and hostile ones."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.recorder.packets import ConnectionAttempt, read_attempt

IPV4, IPV6 = 0x0800, 0x86DD
SYN, ACK = 0x02, 0x10


def ipv4(protocol: int, payload: bytes, *, to: str = "203.0.113.9", options: bytes = b"", offset: int = 0) -> bytes:
    size = 20 + len(options)
    return (
        struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), 7, offset, 64, protocol, 0)
        + ip_address("198.18.0.2").packed
        + ip_address(to).packed
        + options
        + payload
    )


def ipv6(protocol: int, payload: bytes, *, to: str = "2001:db8::9") -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
    return header + ip_address("fe80::1").packed + ip_address(to).packed + payload


def tcp(port: int, flags: int = SYN) -> bytes:
    return struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 5 << 4, flags, 65535, 0, 0)


def udp(port: int) -> bytes:
    return struct.pack("!HHHH", 40000, port, 8, 0)


def tcp_attempt(address: str, port: int) -> ConnectionAttempt:
    return ConnectionAttempt(protocol="tcp", address=address, port=port)


@pytest.mark.parametrize(
    ("packet", "ethertype", "attempt"),
    [
        (ipv4(6, tcp(9418)), IPV4, tcp_attempt("203.0.113.9", 9418)),
        (ipv4(6, tcp(22), options=b"\1" * 8), IPV4, tcp_attempt("203.0.113.9", 22)),
        (ipv4(17, udp(53), to="8.8.8.8"), IPV4, ConnectionAttempt(protocol="udp", address="8.8.8.8", port=53)),
        (ipv4(17, udp(443), offset=0x2000), IPV4, ConnectionAttempt(protocol="udp", address="203.0.113.9", port=443)),
        (ipv4(1, b"\x08\0\0\0\0\0\0\0"), IPV4, ConnectionAttempt(protocol="icmp", address="203.0.113.9", port=None)),
        (ipv6(6, tcp(443)), IPV6, tcp_attempt("2001:db8::9", 443)),
        (ipv6(17, udp(5353), to="ff02::fb"), IPV6, ConnectionAttempt(protocol="udp", address="ff02::fb", port=5353)),
        (ipv6(58, b"\x80\0\0\0\0\0\0\0"), IPV6, ConnectionAttempt(protocol="icmp", address="2001:db8::9", port=None)),
        (ipv6(0, b"\x06\0" + b"\0" * 6 + tcp(80)), IPV6, tcp_attempt("2001:db8::9", 80)),
        (ipv6(43, b"\x3c\1" + b"\0" * 14 + b"\x06\0" + b"\0" * 6 + tcp(80)), IPV6, tcp_attempt("2001:db8::9", 80)),
        (
            ipv6(44, b"\x11\0\0\1\0\0\0\7" + udp(99)),
            IPV6,
            ConnectionAttempt(protocol="udp", address="2001:db8::9", port=99),
        ),
        (ipv6(51, b"\x06\1" + b"\0" * 10 + tcp(80)), IPV6, tcp_attempt("2001:db8::9", 80)),
    ],
)
def test_what_begins_something(packet: bytes, ethertype: int, attempt: ConnectionAttempt) -> None:
    assert read_attempt(packet, ethertype) == attempt


@pytest.mark.parametrize(
    ("packet", "ethertype"),
    [
        (ipv4(6, tcp(80, SYN | ACK)), IPV4),
        (ipv4(6, tcp(80, ACK)), IPV4),
        (ipv4(17, udp(53), offset=5), IPV4),  # a later fragment: no port
        (ipv4(1, b"\0\0\0\0"), IPV4),  # an echo reply
        (ipv4(132, udp(9)), IPV4),  # SCTP
        (ipv4(58, b"\x80\0\0\0"), IPV4),  # the other version's ICMP
        (ipv6(58, b"\x87\0\0\0"), IPV6),  # neighbour solicitation: the kernel's
        (ipv6(0, b"\x3a\0" + b"\0" * 6 + b"\x8f\0\0\0"), IPV6),  # multicast listener report: the kernel's
        (ipv6(44, b"\x11\0\0\x08\0\0\0\7" + udp(99)), IPV6),
        (ipv6(59, b""), IPV6),
        (ipv4(6, tcp(80)), IPV6),
        (ipv6(6, tcp(80)), IPV4),
        (ipv4(6, tcp(80)), 0x0806),
        (b"", IPV4),
        (b"", IPV6),
        (b"\x41" + ipv4(6, tcp(80))[1:], IPV4),  # a header shorter than any
    ],
)
def test_what_begins_nothing(packet: bytes, ethertype: int) -> None:
    assert read_attempt(packet, ethertype) is None


@pytest.mark.parametrize(("packet", "ethertype"), [(ipv4(6, tcp(80)), IPV4), (ipv6(6, tcp(80)), IPV6)])
def test_a_packet_may_be_cut_off_anywhere(packet: bytes, ethertype: int) -> None:
    whole = read_attempt(packet, ethertype)
    ports_end = len(packet) - len(tcp(80)) + 4
    for size in range(len(packet)):
        assert read_attempt(packet[:size], ethertype) == (whole if size >= ports_end else None)


def test_endless_extension_headers_end() -> None:
    assert read_attempt(ipv6(60, b"\x3c\0" + b"\0" * 6) + (b"\x3c\0" + b"\0" * 6) * 5000, IPV6) is None


@given(st.binary(max_size=200), st.sampled_from([IPV4, IPV6, 0, 0xFFFF]))
def test_any_bytes_are_read_without_an_error(packet: bytes, ethertype: int) -> None:
    read_attempt(packet, ethertype)


@given(st.sampled_from([0, 6, 17, 43, 44, 51, 58, 60]), st.binary(max_size=120))
def test_any_extension_headers_are_read_without_an_error(protocol: int, payload: bytes) -> None:
    attempt = read_attempt(ipv6(protocol, payload), IPV6)
    assert attempt is None or attempt.address == "2001:db8::9"


@given(st.ip_addresses(), st.integers(0, 65535), st.sampled_from(["tcp", "udp"]))
def test_round_trip(address: object, port: int, protocol: str) -> None:
    segment, number = (tcp(port), 6) if protocol == "tcp" else (udp(port), 17)
    is_ipv4 = "." in str(address) and ":" not in str(address)
    packet = (ipv4 if is_ipv4 else ipv6)(number, segment, to=str(address))
    attempt = read_attempt(packet, IPV4 if is_ipv4 else IPV6)
    assert attempt is not None
    assert (attempt.protocol, ip_address(attempt.address), attempt.port) == (protocol, address, port)
