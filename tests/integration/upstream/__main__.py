"""The upstream's process: makes the network of the namespace it was started in, serves, and ends with its stdin.

    unshare --net --mount ... python -m tests.integration.upstream FOLDER

`FOLDER` holds what `tests.integration.upstream.world` wrote. One line on stdout says that everybody can be reached.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from pathlib import Path
from typing import Final

from tests.integration.index_server import IndexServer
from tests.integration.private_names import PrivateNames
from tests.integration.upstream.answers import Files
from tests.integration.upstream.connections import Answer, Application, Journal, Request, Server
from tests.integration.upstream.debian_archive import DebianArchive
from tests.integration.upstream.git_repository import GitHost
from tests.integration.upstream.names import (
    ADDRESS,
    INDEX_ADDRESS,
    RESOLVER,
    STRANGER_ADDRESS,
    ZONE,
    serve_names,
)
from tests.integration.upstream.npm_registry import NpmRegistry

_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_IFF_UP_RUNNING: Final = 0x41
PORTS: Final = {80: False, 443: True, 8080: False, 8443: True}
"""The ports of most names, and whether TLS is spoken there."""


def main(folder: Path) -> None:
    _raise_loopback(ADDRESS, "255.255.255.0")
    serve_names(RESOLVER)
    journal = Journal(folder / "requests")
    # A wildcard needs two labels after its star.
    trusted = PrivateNames(folder, {}).server_context(f"*.{ZONE}")
    (folder / "stranger").mkdir()
    untrusted = PrivateNames(folder / "stranger", {}).server_context(f"stranger.{ZONE}")

    files = Files(folder)
    hosts: dict[str, Application] = {
        f"files.{ZONE}": files,
        f"other.{ZONE}": files,
        f"debian.{ZONE}": DebianArchive(folder / "archive/debian"),
        f"git.{ZONE}": GitHost(folder / "git"),
        f"npm.{ZONE}": NpmRegistry(f"https://npm.{ZONE}"),
    }

    def application(request: Request) -> Answer:
        # Whoever comes by another name gets files: what is refused must not depend on the upstream's kindness.
        return hosts.get(request.host, files)(request)

    for port, is_tls in PORTS.items():
        Server((ADDRESS, port), application, journal, tls=trusted if is_tls else None)
    # The servers that every host has and that no step may reach.
    Server(("127.0.0.1", 80), files, journal)
    Server((STRANGER_ADDRESS, 443), files, journal, tls=untrusted)
    index = IndexServer(folder / "packages", address=(INDEX_ADDRESS, 443), tls=trusted)
    index.requests = _Noted(journal)
    with index:
        print("ready", flush=True)
        sys.stdin.read()


class _Noted(list[str]):
    """The index's list of paths, which goes to the journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def append(self, path: str) -> None:
        self._journal.note(Request(method="GET", scheme="https", host=f"pypi.{ZONE}", path=path), 443)


def _raise_loopback(address: str, mask: str) -> None:
    """The loopback interface, and all of a network on it (netdevice(7))."""

    def with_address(name: bytes, dotted: str) -> bytes:
        return struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(dotted))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))
        fcntl.ioctl(control, _SIOCSIFADDR, with_address(b"lo:1", address))
        fcntl.ioctl(control, _SIOCSIFNETMASK, with_address(b"lo:1", mask))


main(Path(sys.argv[1]))
