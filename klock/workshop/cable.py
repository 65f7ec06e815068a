"""The network of a command: none but its own loopback, or one cable whose other end is the recorder's.

A command with an `Uplink` gets a network namespace of its own. `eth0` in it is one end of a veth pair. The other end,
`up0`, is in a second namespace that takes packets for every address as its own. So whatever the command tries arrives
there, where the recorder's sockets are. Only the recorder holds them: with it that namespace goes, and the cable.

The command has no rights over either namespace, as both belong to the user namespace above its own.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import socket
import struct
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from typing import Final

from klock.errors import EngineError
from klock.workshop import linux
from klock.workshop.command import RESOLVER, Uplink
from klock.workshop.netlink import LOOPBACK, End, RouteSocket
from klock.workshop.packet_filter import packet_filter

__all__ = ["enter_empty_network", "enter_recorded_network"]

# Far above what a kernel gives to the interfaces that its modules add to every namespace.
_INDEX: Final = 198
_MTU: Final = 65535
_INSIDE: Final = End(index=_INDEX, name="eth0", address=bytes.fromhex("020000000002"), mtu=_MTU)
_OUTSIDE: Final = End(index=_INDEX, name="up0", address=bytes.fromhex("020000000001"), mtu=_MTU)
_ADDRESSES: Final = (
    # everything, the command's address, the recorder's
    (ip_network("0.0.0.0/0"), ip_interface("198.18.0.2/30"), ip_interface(f"{RESOLVER}/30")),
    (ip_network("::/0"), ip_interface("fd00:198:18::2/64"), ip_interface("fd00:198:18::1/64")),
)
_DNS: Final = 53
_WAITING: Final = 4096
"""Connections that the kernel holds for a listener before it is asked for them; the kernel's own limit by default."""

_ALL_PACKETS: Final = 0x0003  # ETH_P_ALL
_SO_ATTACH_FILTER: Final = 26
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.ENODEV)
_TRIES: Final = 2000
_PAUSE: Final = 0.001


def enter_empty_network() -> None:
    """Moves this process into a new network namespace with nothing but a loopback interface that is up."""
    _unshare()
    with RouteSocket() as routes:
        routes.bring_up(LOOPBACK)


def enter_recorded_network(uplink: Uplink) -> None:
    """Moves this process into a network whose only way out is the recorder, and waits until the recorder serves it.

    Raises EngineError when this machine has no such cables, or the recorder has ended.
    """
    _unshare()
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    # Sockets stay in the namespace they were made in; they are bound when it has its addresses.
    resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    listeners = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in uplink.ports]
    sockets = [resolver, packets, *listeners]
    try:
        with RouteSocket() as outside:
            _unshare()
            with RouteSocket() as inside:
                _lay(inside, outside, namespace)
        near = {place: listener for place in uplink.loopback if (listener := _listen_near(*place)) is not None}
        sockets += near.values()
        resolver.bind((RESOLVER, _DNS))
        _check(resolver)
        # First the filter: without one it would take in everything from the moment it is bound.
        _attach_filter(packets)
        packets.bind(("up0", _ALL_PACKETS))
        for listener, port in zip(listeners, uplink.ports, strict=True):
            listener.bind(("0.0.0.0", port))
            listener.listen(_WAITING)
        _hand_over(uplink, sockets, loopback=tuple(near))
    finally:
        os.close(namespace)
        for each in sockets:
            each.close()
    _wait(uplink)


def _unshare() -> None:
    try:
        linux.unshare(linux.CLONE_NEWNET)
    except OSError as error:
        raise EngineError(
            f"this machine does not let klock make a network namespace: {error.strerror}",
            hint="allow it: sysctl user.max_net_namespaces=10000",
        ) from error


def _lay(inside: RouteSocket, outside: RouteSocket, namespace: int) -> None:
    try:
        inside.add_cable(_INSIDE, _OUTSIDE, namespace)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise EngineError(
            "this kernel has no virtual network cables (veth), which steps with a network need",
            hint="as root: modprobe veth",
        ) from error
    for end in (inside, outside):
        end.bring_up(LOOPBACK)
    ipv4, ipv6 = _ADDRESSES
    try:
        for end in (inside, outside):
            end.disable_own_ipv6_addresses(_INDEX)
        has_ipv6 = True
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
        has_ipv6 = False
    # The far end first, so that the near one finds it up and is ready at once.
    for end in (outside, inside):
        end.bring_up(_INDEX)
    _address(inside, outside, *ipv4)
    if has_ipv6:
        try:
            _address(inside, outside, *ipv6)
        except OSError as error:
            # Switched off (disable_ipv6): the command then has no way out by IPv6 at all.
            if error.errno not in _NO_IPV6:
                raise


def _address(
    inside: RouteSocket,
    outside: RouteSocket,
    everything: IPv4Network | IPv6Network,
    near: IPv4Interface | IPv6Interface,
    far: IPv4Interface | IPv6Interface,
) -> None:
    outside.add_address(_INDEX, far)
    outside.take_all(everything, but=ip_network(near.ip), index=_INDEX)
    outside.add_neighbour(_INDEX, near.ip, _INSIDE.address)
    inside.add_address(_INDEX, near)
    inside.add_neighbour(_INDEX, far.ip, _OUTSIDE.address)
    inside.add_default_route(_INDEX, far.ip)


def _listen_near(address: str, port: int) -> socket.socket | None:
    """A listener on the command's own loopback; None where there is no IPv6."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=_WAITING)
    except OSError as error:
        if error.errno not in (*_NO_IPV6, errno.EADDRNOTAVAIL):
            raise
        return None


def _check(resolver: socket.socket) -> None:
    """Waits until packets go both ways: the kernel opens a cable's ends a moment after they were brought up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
        near.connect((RESOLVER, _DNS))
        for _ in range(_TRIES):
            near.send(b"")
            if _is_readable(resolver):
                _, sender = resolver.recvfrom(1)
                resolver.sendto(b"", sender)
                if _is_readable(near):
                    break
        else:
            raise EngineError(
                "the sandbox's virtual network carries no packets",
                hint="check whether a firewall on this machine blocks new network namespaces",
            )
    while select.select([resolver], [], [], 0)[0]:
        resolver.recvfrom(1)


def _is_readable(endpoint: socket.socket) -> bool:
    return bool(select.select([endpoint], [], [], _PAUSE)[0])


def _attach_filter(packets: socket.socket) -> None:
    program = packet_filter()
    memory = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, of 8 bytes each, and where they are
    description = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, description)


def _hand_over(uplink: Uplink, sockets: list[socket.socket], *, loopback: tuple[tuple[str, int], ...]) -> None:
    message = json.dumps({"ports": uplink.ports, "loopback": loopback}).encode()
    try:
        socket.send_fds(uplink.channel, [message], [each.fileno() for each in sockets])
    except OSError as error:
        raise _no_recorder() from error


def _wait(uplink: Uplink) -> None:
    try:
        answer = uplink.channel.recv(1)
    except OSError as error:
        raise _no_recorder() from error
    if not answer:
        raise _no_recorder()


def _no_recorder() -> EngineError:
    return EngineError("the recorder ended before the command could start", hint="try again")
