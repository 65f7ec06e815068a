"""The name server of a recorded step: each name has one IPv4 address, its own, and it leads to the recorder.

What a step does with names must not depend on the moment: addresses are derived from a hash of the name, in the block
for tests of networks (RFC 2544), and there is no other record: no IPv6, no services, no reverse names. So a connection
to an address says which name was meant, whatever the protocol. (RFC 1035; EDNS, RFC 6891, is ignored, as it may be.)
"""

from __future__ import annotations

import hashlib
import re
import struct
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from klock.errors import EngineError

__all__ = ["Names"]

_BLOCK: Final = IPv4Network("198.18.0.0/15")
_RESERVED: Final = IPv4Network("198.18.0.0/30")
"""The cable's own two ends, and the network's address."""
_MOST_NAMES: Final = 1 << 15

_HEADER: Final = struct.Struct("!HHHHHH")
_IS_ANSWER: Final = 0x8000
_OPCODE: Final = 0x7800
_AUTHORITATIVE: Final = 0x0400
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_NO_ERROR, _FORMAT_ERROR, _NO_SUCH_NAME, _NOT_IMPLEMENTED, _REFUSED = 0, 1, 3, 4, 5
_A: Final = 1
_INTERNET: Final = 1
_TTL: Final = 60
_LOOPBACK: Final = "127.0.0.1"

_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9][a-z0-9_-]{0,62}(?:\.[a-z0-9][a-z0-9_-]{0,62})*")
"""Labels do not begin with `_`: those are services (RFC 8552), which have no address."""
_OTHER_NAMES: Final = re.compile(r"(?:.*\.)?(?:in-addr\.arpa|ip6\.arpa|localhost|[0-9]+)")
"""Reverse names, names of the step's own host, and addresses (no top-level domain is a number)."""


class Names:
    """Answers DNS queries, and knows afterwards which name an address stands for. Any thread may use it.

    `find` says whether a name (lower case, without a dot at its end) may be answered. It is asked at each query, may
    block, and must know its own answers.
    """

    def __init__(self, find: Callable[[str], bool]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def answer(self, query: bytes) -> bytes | None:
        """The DNS message that answers a DNS message; None for what is not a query. Raises as `address_of` does."""
        if len(query) < _HEADER.size:
            return None
        identity, flags, questions, *_ = _HEADER.unpack_from(query)
        if flags & _IS_ANSWER:
            return None
        kept_flags = flags & (_OPCODE | _RECURSION_DESIRED)

        def reply(code: int, question: bytes = b"", address: str | None = None) -> bytes:
            answer = b""
            if address is not None:
                # 0xC00C: the name is the one at byte 12, the question's.
                answer = struct.pack("!HHHIH", 0xC00C, _A, _INTERNET, _TTL, 4) + IPv4Address(address).packed
            flags = _IS_ANSWER | _AUTHORITATIVE | _RECURSION_AVAILABLE | kept_flags | code
            counts = (int(bool(question)), int(bool(answer)), 0, 0)
            return _HEADER.pack(identity, flags, *counts) + question + answer

        if flags & _OPCODE:
            return reply(_NOT_IMPLEMENTED)
        parsed = _read_question(query) if questions == 1 else None
        if parsed is None:
            return reply(_FORMAT_ERROR)
        name, kind, network, question = parsed
        if network != _INTERNET:
            return reply(_REFUSED, question)
        if name == "localhost":
            return reply(_NO_ERROR, question, _LOOPBACK if kind == _A else None)
        if not _may_have_address(name) or not self._find(name):
            return reply(_NO_SUCH_NAME, question)
        if kind != _A:
            return reply(_NO_ERROR, question)
        return reply(_NO_ERROR, question, self.address_of(name))

    def address_of(self, name: str) -> str:
        """The address of a name, whether or not it was asked for: the same in each run.

        Only where two names of one step fall on one address does the later one get the next that its hash gives.
        Raises EngineError when a step asks for more names than any step needs.
        """
        name = name.lower().removesuffix(".")
        with self._lock:
            address = self._addresses.get(name)
            if address is not None:
                return address
            if len(self._addresses) >= _MOST_NAMES:
                raise EngineError(f"a step asked for more than {_MOST_NAMES} host names")
            attempt = 0
            while address is None or address in self._names:
                address = _candidate(name, attempt)
                attempt += 1
            self._addresses[name] = address
            self._names[address] = name
            return address

    def name_of(self, address: str) -> str | None:
        """Which name an address was given to."""
        with self._lock:
            return self._names.get(address)


def _read_question(query: bytes) -> tuple[str, int, int, bytes] | None:
    """Name (lower case), type, class and the bytes of the first question; None when it is malformed."""
    labels = []
    position = _HEADER.size
    while True:
        if position >= len(query):
            return None
        size = query[position]
        position += 1
        if size == 0:
            break
        # Two high bits mark a pointer, which has nothing to point to in a first question.
        if size > 63 or position + size > len(query):
            return None
        labels.append(query[position : position + size])
        position += size
        if position - _HEADER.size > 254:
            return None
    if position + 4 > len(query):
        return None
    kind, network = struct.unpack_from("!HH", query, position)
    # A dot within a label is not a separator: it becomes a character that no host name has.
    name = ".".join(label.decode("latin-1").replace(".", "\\") for label in labels).lower()
    return name, kind, network, query[_HEADER.size : position + 4]


def _may_have_address(name: str) -> bool:
    return _HOST_NAME.fullmatch(name) is not None and _OTHER_NAMES.fullmatch(name) is None


def _candidate(name: str, attempt: int) -> str | None:
    """The address that a hash of the name gives, or None where it gives one that is taken by the cable."""
    digest = hashlib.sha256(f"{attempt}:{name}".encode("utf-8", "surrogateescape")).digest()
    offset = int.from_bytes(digest[:8], "big") % _BLOCK.num_addresses
    address = _BLOCK.network_address + offset
    return None if address in _RESERVED or address == _BLOCK.broadcast_address else str(address)
