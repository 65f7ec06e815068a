"""The other end of a step's network: a name server, HTTP servers, and a watch on everything else the step tries."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from klock.recorder.authority import Authority
from klock.recorder.connections import Place, serve, server_context
from klock.recorder.doors import Doors
from klock.recorder.exchange import PATIENCE, Refused, Source
from klock.recorder.names import Names
from klock.recorder.packets import ConnectionAttempt, read_attempt
from klock.recorder.report import Notes
from klock.workshop.protocol import RESOLVER

__all__ = ["Service"]

_DNS: Final = 53
_LOOKUPS_AT_ONCE: Final = 16
_CONNECTIONS_AT_ONCE: Final = 512
_FULL_PAUSE: Final = 0.01
_LARGEST_QUERY: Final = 4096
_DATAGRAMS_AT_ONCE: Final = 1024
_PACKET_BEGINNING: Final = 256
_PACKET_BUFFER: Final = 8 << 20
_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_STATISTICS: Final = 6  # linux/if_packet.h
_PACKET_OUTGOING: Final = 4

_TOO_SLOW: Final = "the step ended before upstream had answered it"

_NOT_HTTP: Final = (21, 22, 23, 25, 53, 110, 119, 139, 143, 389, 445, 465, 587, 636, 853, 873, 993, 995, 9418)
"""Well-known ports of other protocols: a listener there would never see HTTP."""


class Service:
    """Serves a step from threads of its own, until `finish`. The sockets are those that an Uplink is sent."""

    def __init__(
        self,
        *,
        resolver: socket.socket,
        packets: socket.socket,
        listeners: Sequence[socket.socket],
        authority: Authority,
        source: Source,
        notes: Notes,
        doors: Doors,
    ) -> None:
        self._resolver = resolver
        self._packets = packets
        self._listeners = listeners
        self._source = source
        self._notes = notes
        self._doors = doors
        self._names = Names(self._find)
        self._context = server_context(authority)
        self._ports = frozenset(listener.getsockname()[1] for listener in listeners)
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, tuple[Place, socket.socket]] = {}
        self._lookups = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="klock-recorder-names")
        self._wake_reader, self._wake_writer = os.pipe()
        self._watcher = threading.Thread(target=self._watch, name="klock-recorder", daemon=True)
        with contextlib.suppress(OSError):
            packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PACKET_BUFFER)
        self._watcher.start()

    def finish(self) -> None:
        """Takes in all that the step sent before it ended, and returns when all of it is served.

        Upstream may be so slow that it never is: then it is refused, and its thread left behind.
        """
        os.write(self._wake_writer, b"!")
        self._watcher.join()
        self._lookups.shutdown(wait=True)
        with self._lock:
            open_now = dict(self._open)
        for _, client in open_now.values():
            # What was received is still read. Connections that wait for more are ended.
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + PATIENCE
        for thread, (place, _) in open_now.items():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self._notes.refuse(f"{place}: {_TOO_SLOW}")
        if lost := self._lost_packets():
            self._notes.refuse(f"{lost} packets that klock could not read: only HTTP is allowed")

    def _lost_packets(self) -> int:
        """How many packets the kernel dropped because the socket's buffer was full."""
        if self._packets.family != socket.AF_PACKET:
            return 0  # a workshop without a kernel's network
        _, lost = struct.unpack("II", self._packets.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(lost)

    # -- watching

    def _watch(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                for watched in (self._resolver, self._packets, *self._listeners):
                    watched.setblocking(False)
                selector.register(self._resolver, selectors.EVENT_READ, self._read_queries)
                selector.register(self._packets, selectors.EVENT_READ, self._read_packets)
                for listener in self._listeners:
                    selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
                selector.register(self._wake_reader, selectors.EVENT_READ)
                going = True
                while going:
                    going = not any(key.fd == self._wake_reader for key, _ in selector.select())
                    for key in list(selector.get_map().values()):
                        if key.data is not None:
                            key.data()
                    if len(self._open) >= _CONNECTIONS_AT_ONCE:
                        time.sleep(_FULL_PAUSE)
                while self._read_packets():
                    pass
        except BaseException as error:
            self._notes.fail(error, "watching the step's network")

    def _read_queries(self) -> None:
        for query, client in _datagrams(self._resolver, _LARGEST_QUERY):
            self._lookups.submit(self._answer_query, query, client)

    def _read_packets(self) -> bool:
        """Reads the packets that have arrived; returns whether there were any."""
        packets = _datagrams(self._packets, _PACKET_BEGINNING)
        for packet, address in packets:
            attempt = read_attempt(packet, address[1]) if address[2] != _PACKET_OUTGOING else None
            if attempt is not None:
                self._judge(attempt)
        return bool(packets)

    def _judge(self, attempt: ConnectionAttempt) -> None:
        is_served = attempt.protocol == "tcp" and attempt.port in self._ports and ":" not in attempt.address
        is_query = (attempt.protocol, attempt.address, attempt.port) == ("udp", RESOLVER, _DNS)
        if is_served or is_query:
            return
        name = self._names.name_of(attempt.address)
        host = name or (f"[{attempt.address}]" if ":" in attempt.address else attempt.address)
        port = "" if attempt.port is None else f":{attempt.port}"
        self._notes.refuse(f"{attempt.protocol} {host}{port}: only HTTP is allowed")
        if name is None or attempt.protocol != "tcp" or attempt.port is None or attempt.port in _NOT_HTTP:
            return
        self._notes.try_port(attempt.port)

    # -- names

    def _answer_query(self, query: bytes, client: Any) -> None:
        try:
            answer = self._names.answer(query)
            if answer is not None:
                self._resolver.sendto(answer, client)
        except OSError:
            pass  # the step is gone
        except BaseException as error:
            self._notes.fail(error, "answering for a name")

    def _find(self, name: str) -> bool:
        try:
            return self._doors.has_host(name) or self._source.finds(name)
        except Refused as refused:
            self._notes.refuse(f"{name}: {refused}")
            return False

    # -- connections

    def _accept(self, listener: socket.socket) -> None:
        while len(self._open) < _CONNECTIONS_AT_ONCE:
            try:
                client, _ = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            client.setblocking(True)
            address, port = client.getsockname()[:2]
            name = self._names.name_of(address) or self._doors.host_at(address, port)
            if name is None:
                what = "this machine" if ip_address(address).is_loopback else "an address"
                self._notes.refuse(f"tcp {address}:{port}: {what}, but steps may connect only to host names")
                client.close()
                continue
            place = Place(name=name, port=port)
            # Only shut down, never read: TLS takes over the first socket.
            handle = client.dup()
            thread = threading.Thread(
                target=self._serve,
                args=(client, place),
                name="klock-recorder-client",
                daemon=True,
            )
            with self._lock:
                self._open[thread] = place, handle
            thread.start()

    def _serve(self, client: socket.socket, place: Place) -> None:
        try:
            serve(client, place, context=self._context, source=self._source, notes=self._notes, doors=self._doors)
        except ssl.SSLError:
            pass  # while closing
        except BaseException as error:
            self._notes.fail(error, "serving a connection")
        finally:
            with self._lock:
                _, handle = self._open.pop(threading.current_thread())
            handle.close()


def _datagrams(receiver: socket.socket, largest: int) -> list[tuple[bytes, Any]]:
    """All that has arrived by now, up to a number that leaves time for the rest."""
    found: list[tuple[bytes, Any]] = []
    errors = 0
    while len(found) < _DATAGRAMS_AT_ONCE:
        try:
            found.append(receiver.recvfrom(largest, socket.MSG_DONTWAIT))
        except BlockingIOError:
            break
        except OSError:
            # When the step ends its cable goes down, which is said once, before what arrived until then.
            errors += 1
            if errors > 1:
                break
    return found
