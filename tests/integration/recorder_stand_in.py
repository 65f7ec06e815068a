"""A recorder for tests of the cable alone: it gives every name one address, answers every request, and notes it all.

It needs nothing but klock, so that a test can copy it and run it as another account.
"""

from __future__ import annotations

import ipaddress
import json
import os
import select
import signal
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from klock.workshop.protocol import Uplink

__all__ = ["ADDRESS", "StandIn", "stand_in"]

ADDRESS: Final = "198.18.100.1"
"""The address of every name."""


@dataclass
class StandIn:
    """`notes` says what arrived: `tcp 192.0.2.1:80`, `udp ...`, `icmp ...`, `name example.org`, `GET http://...`."""

    uplink: Uplink
    pid: int

    def notes(self) -> list[str]:
        """Ends it, and returns what it noted, sorted, each once."""
        self.uplink.channel.shutdown(socket.SHUT_WR)
        content = bytearray()
        while chunk := self.uplink.channel.recv(1 << 16):
            content += chunk
        return sorted(set(json.loads(content)))

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def stand_in(
    ports: Sequence[int] = (80, 443), *, certificate: bytes = b"", chain: Path | None = None, deaf: bool = False
) -> Iterator[StandIn]:
    """A process that serves one command. `chain`: a PEM file with a key and a certificate for TLS, signed by that of
    `certificate`. `deaf`: it takes the sockets and ends."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _serve(theirs, chain, deaf=deaf)
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield StandIn(uplink=Uplink(channel=ours, ports=tuple(ports), certificate=certificate), pid=pid)
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _serve(channel: socket.socket, chain: Path | None, *, deaf: bool) -> None:
    message, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 250)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    if deaf or len(sockets) != 2 + len(json.loads(message)["ports"]):
        return
    channel.send(b"!")
    resolver, packets, *listeners = sockets
    notes: list[str] = []
    while True:
        readable = select.select([channel, *sockets], [], [])[0]
        if channel in readable:
            break
        with suppress(OSError):
            if resolver in readable:
                notes.append(_answer(resolver))
            if packets in readable:
                notes.append(_described(packets))
            for listener in readable:
                if listener in listeners:
                    notes.append(_reply(listener.accept()[0], chain))
    packets.setblocking(False)
    while True:
        try:
            notes.append(_described(packets))
        except BlockingIOError:
            break
        except OSError:
            # The command's end of the cable is gone. That is said once; what arrived before comes after.
            continue
    channel.sendall(json.dumps(notes).encode())


def _described(packets: socket.socket) -> str:
    packet = packets.recv(1 << 16)
    if packet[0] >> 4 == 4:
        protocol, header = packet[9], 4 * (packet[0] & 15)
        address = str(ipaddress.IPv4Address(packet[16:20]))
    else:
        protocol, header = packet[6], 40
        address = f"[{ipaddress.IPv6Address(packet[24:40])}]"
    name = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}.get(protocol, str(protocol))
    port = f":{struct.unpack_from('!H', packet, header + 2)[0]}" if name in ("tcp", "udp") else ""
    return f"{name} {address}{port}"


def _answer(resolver: socket.socket) -> str:
    """DNS (RFC 1035): one address for each name, none of another type."""
    query, sender = resolver.recvfrom(512)
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    question = query[12 : at + 5]
    is_a = question[-4:-2] == b"\0\1"
    record = b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", 60, 4) + socket.inet_aton(ADDRESS)
    head = query[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, is_a, 0, 0)
    resolver.sendto(head + question + record * is_a, sender)
    return "name " + ".".join(labels)


def _reply(connection: socket.socket, chain: Path | None) -> str:
    """HTTP, and TLS where a connection begins with it: the answer to every request is `served`."""
    connection.settimeout(5)
    scheme = "http"
    if connection.recv(1, socket.MSG_PEEK) == b"\x16" and chain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        connection = context.wrap_socket(connection, server_side=True)
        scheme = "https"
    request = b""
    while b"\r\n\r\n" not in request:
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ConnectionError("no request")
        request += chunk
    lines = request.decode().split("\r\n")
    host = next(line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:"))
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nserved\n")
    connection.close()
    method, path, _ = lines[0].split(" ")
    return f"{method} {scheme}://{host}{path}"
