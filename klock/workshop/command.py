"""A command, as the workshop and the places are asked to run it.

A part of `klock.workshop.protocol`, and all of it that is imported where the command of an environment starts at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.gpu.edits import NO_DEVICES, ContainerEdits
from klock.values import dataclass

if TYPE_CHECKING:
    from socket import socket

__all__ = ["RESOLVER", "SCRIPT", "Command", "Mount", "Network", "Uplink"]

SCRIPT: Final = "/run/klock/script"
"""Where a command finds its script."""


class Network(Enum):
    """What a command can reach: nothing, or all that the host can. The third way is an `Uplink`."""

    NONE = "none"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """A network whose only other end is klock's recorder: every connection of the command ends there or fails.

    The workshop gives the command a network of its own with one cable, and keeps the cable's other end in a network
    that takes packets for any address. There it binds the sockets below and sends them over `channel`, a Unix stream
    socket, in one message: the JSON object `{"ports": [80, 443, ...]}` with descriptors (SCM_RIGHTS), in this order:

    1. a UDP socket at RESOLVER, port 53, which is the command's only name server;
    2. a packet socket (packet(7), SOCK_DGRAM) that sees what arrives over the cable and begins something: TCP segments
       with SYN and without ACK, UDP datagrams, ICMP echo requests, of IPv4 and IPv6;
    3. for each port a listening TCP socket that takes connections to any IPv4 address;
    4. for each of `loopback`, an address and a port of the command's own loopback, a listening TCP socket there. The
       message names those that could be made, `"loopback": [["127.0.0.1", 8080], ...]`.

    The recorder answers with one byte when it serves them; only then the command starts. When the recorder ends, so do
    its sockets, and the command reaches nothing: it fails closed.

    `certificate` is the recorder's authority (PEM): what the command trusts for TLS, whichever program it runs.
    """

    channel: socket
    ports: tuple[int, ...]
    certificate: bytes
    loopback: tuple[tuple[str, int], ...] = ()


RESOLVER: Final = "198.18.0.1"
"""The name server that a command with an uplink asks, and its gateway: in RFC 2544's block for tests of networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host file or folder that a command sees at `target` (absolute). Mounts leave no trace in a layer."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to run in an environment. `environment` is complete: nothing is inherited from the host.

    `script` is a file that the command finds at SCRIPT: a shell's text, which may be long, and secret, as a command
    line must not be. `user` is as in an OCI config (`""` and `root` are uid 0; `name`, `uid`, `uid:gid`). A missing
    `working_dir` is made, or refused with EngineError when `makes_working_dir` is False. `devices` is what the command
    needs to see devices of the machine; it has no hooks. `own_tmp`: /tmp is empty, and goes with the command; else it
    is the tree's. `varied`: it gets what `Workshop.open` says of that, alone. `host_pid`: its process ids are those of
    the machine, whose processes it sees. `host_ipc`: it shares memory and messages (sysvipc(7), mq_overview(7), all of
    /dev/shm) with the machine's processes. `shm_size`: it has a /dev/shm of its own, of so many bytes; not together
    with `host_ipc`.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_dir: str = "/"
    makes_working_dir: bool = True
    user: str = ""
    network: Network | Uplink = Network.NONE
    mounts: tuple[Mount, ...] = ()
    script: str | None = None
    devices: ContainerEdits = NO_DEVICES
    own_tmp: bool = True
    varied: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    shm_size: int | None = None
