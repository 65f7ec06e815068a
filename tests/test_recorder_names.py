"""The recorder's name server: which names have which address, and what no query can do to it."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import EngineError
from klock.recorder.names import Names

A, NS, CNAME, PTR, AAAA, SRV, HTTPS, ANY = 1, 2, 5, 12, 28, 33, 65, 255
NO_ERROR, FORMAT_ERROR, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = 0, 1, 3, 4, 5
EDNS = b"\x00" + struct.pack("!HHIH", 41, 1232, 0, 0)


def encoded(name: str) -> bytes:
    labels = name.split(".") if name else []
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in labels) + b"\0"


def query(name: str, kind: int = A, *, flags: int = 0x0100, network: int = 1, extra: bytes = b"") -> bytes:
    header = struct.pack("!HHHHHH", 0xBEEF, flags, 1, 0, 0, int(bool(extra)))
    return header + encoded(name) + struct.pack("!HH", kind, network) + extra


def read(answer: bytes | None) -> tuple[int, list[str]]:
    """The code and the addresses of an answer."""
    assert answer is not None
    identity, flags, questions, answers, authorities, additional = struct.unpack_from("!HHHHHH", answer)
    assert (identity, flags & 0x8000, authorities, additional) == (0xBEEF, 0x8000, 0, 0)
    position = 12
    for _ in range(questions):
        while answer[position]:
            position += answer[position] + 1
        position += 5
    addresses = []
    for _ in range(answers):
        pointer, kind, network, ttl, size = struct.unpack_from("!HHHIH", answer, position)
        assert (pointer, kind, network, ttl, size) == (0xC00C, A, 1, 60, 4)
        addresses.append(str(IPv4Address(answer[position + 12 : position + 16])))
        position += 16
    assert position == len(answer)
    return flags & 0xF, addresses


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def names(asked: list[str]) -> Names:
    def find(name: str) -> bool:
        asked.append(name)
        return name.endswith("example.org")

    return Names(find)


def test_a_known_name_has_an_address_that_leads_back_to_it(names: Names) -> None:
    code, addresses = read(names.answer(query("pypi.example.org")))
    assert code == NO_ERROR
    assert addresses == [names.address_of("pypi.example.org")]
    assert names.name_of(addresses[0]) == "pypi.example.org"


def test_an_unknown_name_does_not_exist(names: Names) -> None:
    assert read(names.answer(query("example.com"))) == (NO_SUCH_NAME, [])
    assert read(names.answer(query("example.com", AAAA))) == (NO_SUCH_NAME, [])


@pytest.mark.parametrize("kind", [AAAA, NS, CNAME, SRV, HTTPS, ANY, 0, 65535])
def test_other_records_of_a_known_name_are_empty(names: Names, kind: int) -> None:
    assert read(names.answer(query("example.org", kind))) == (NO_ERROR, [])


@pytest.mark.parametrize(
    "name",
    [
        "_http._tcp.deb.example.org",
        "_dmarc.example.org",
        "4.3.2.1.in-addr.arpa",
        "1.0.0.0.ip6.arpa",
        "in-addr.arpa",
        "a.localhost",
        "198.51.100.7",
        "bad name.example.org",
        "-.example.org",
        "tést.example.org",
        "",
    ],
)
def test_what_is_no_host_is_not_looked_up(names: Names, asked: list[str], name: str) -> None:
    assert read(names.answer(query(name))) == (NO_SUCH_NAME, [])
    assert asked == []


def test_a_dot_within_a_label_is_no_separator(names: Names, asked: list[str]) -> None:
    message = struct.pack("!HHHHHH", 0xBEEF, 0, 1, 0, 0, 0) + b"\x0bexample.org\0" + struct.pack("!HH", A, 1)
    assert read(names.answer(message)) == (NO_SUCH_NAME, [])
    assert asked == []


def test_localhost_is_the_step_itself(names: Names, asked: list[str]) -> None:
    assert read(names.answer(query("localhost"))) == (NO_ERROR, ["127.0.0.1"])
    assert read(names.answer(query("LocalHost", AAAA))) == (NO_ERROR, [])
    assert asked == []
    assert names.name_of("127.0.0.1") is None


def test_case_does_not_matter_and_is_kept_in_the_answer(names: Names, asked: list[str]) -> None:
    answer = names.answer(query("ExAmPlE.oRg"))
    assert answer is not None
    assert encoded("ExAmPlE.oRg") in answer
    assert asked == ["example.org"]
    assert names.address_of("EXAMPLE.org.") == names.address_of("example.org")


def test_edns_is_tolerated(names: Names) -> None:
    assert read(names.answer(query("example.org", extra=EDNS)))[0] == NO_ERROR


@pytest.mark.parametrize(
    ("what", "message", "code"),
    [
        ("no question", struct.pack("!HHHHHH", 0xBEEF, 0, 0, 0, 0, 0), FORMAT_ERROR),
        ("two questions", struct.pack("!HHHHHH", 0xBEEF, 0, 2, 0, 0, 0) + query("example.org")[12:] * 2, FORMAT_ERROR),
        ("cut off", query("example.org")[:-1], FORMAT_ERROR),
        ("a pointer", struct.pack("!HHHHHH", 0xBEEF, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", FORMAT_ERROR),
        (
            "a long label",
            struct.pack("!HHHHHH", 0xBEEF, 0, 1, 0, 0, 0) + b"@" + b"a" * 64 + b"\0\0\1\0\1",
            FORMAT_ERROR,
        ),
        ("a long name", query(".".join(["a" * 63] * 5)), FORMAT_ERROR),
        ("another class", query("example.org", network=3), REFUSED),
        ("an update", query("example.org", flags=5 << 11), NOT_IMPLEMENTED),
    ],
)
def test_what_cannot_be_answered(names: Names, asked: list[str], what: str, message: bytes, code: int) -> None:
    assert read(names.answer(message)) == (code, []), what
    assert asked == []


@pytest.mark.parametrize("message", [b"", b"\0" * 11, query("example.org", flags=0x8180)])
def test_what_is_no_query_gets_no_answer(names: Names, message: bytes) -> None:
    assert names.answer(message) is None


def test_addresses_are_the_same_in_each_run() -> None:
    # A change of these changes what a step sees.
    names = Names(lambda name: True)
    assert names.address_of("deb.debian.org") == "198.18.75.36"
    assert names.address_of("pypi.org") == "198.18.15.220"


@pytest.mark.parametrize("name", ["h50396.example", "h293062.example"])
def test_addresses_that_are_taken_are_given_to_no_name(name: str) -> None:
    # The hash of the first one's name gives an address of the cable, that of the second one the broadcast address.
    address = IPv4Address(Names(lambda name: True).address_of(name))
    assert address in IPv4Network("198.18.0.0/15")
    assert address not in IPv4Network("198.18.0.0/30")
    assert address != IPv4Address("198.19.255.255")


def test_ten_thousand_names_have_ten_thousand_addresses() -> None:
    names = Names(lambda name: True)
    addresses = {f"h{number}.example": names.address_of(f"h{number}.example") for number in range(10_000)}
    assert len(set(addresses.values())) == len(addresses)
    assert {names.name_of(address) for address in addresses.values()} == set(addresses)
    cable, block = IPv4Network("198.18.0.0/30"), IPv4Network("198.18.0.0/15")
    assert all(IPv4Address(a) in block and IPv4Address(a) not in cable for a in addresses.values())
    assert "198.19.255.255" not in addresses.values()


def test_a_step_that_never_stops_asking_is_stopped() -> None:
    names = Names(lambda name: True)
    for number in range(1 << 15):
        names.address_of(f"h{number}.example")
    with pytest.raises(EngineError, match="a step asked for more than 32768 host names"):
        names.answer(query("one-more.example"))
    assert read(names.answer(query("h7.example")))[0] == NO_ERROR


def test_an_address_nobody_asked_for_has_no_name(names: Names) -> None:
    assert names.name_of("198.18.5.5") is None
    assert names.name_of("not an address") is None


def test_a_lookup_that_takes_long_stops_no_other() -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def find(name: str) -> bool:
        if name == "slow.example":
            waiting.set()
            go_on.wait()
        return True

    names = Names(find)
    slow: list[bytes | None] = []
    thread = threading.Thread(target=lambda: slow.append(names.answer(query("slow.example"))))
    thread.start()
    waiting.wait()
    assert read(names.answer(query("fast.example")))[0] == NO_ERROR
    go_on.set()
    thread.join()
    assert read(slow[0])[0] == NO_ERROR


@given(st.binary(max_size=600))
def test_any_bytes_are_answered_well_or_not_at_all(message: bytes) -> None:
    answer = Names(lambda name: True).answer(message)
    if answer is not None:
        assert answer[:2] == message[:2]
        assert len(answer) <= 512


@given(st.binary(max_size=80), st.integers(0, 2), st.integers(0, 0xFFFF))
def test_any_question_is_answered_well(question: bytes, questions: int, flags: int) -> None:
    header = struct.pack("!HHHHHH", 0xBEEF, flags & 0x7FFF, questions, 0, 0, 0)
    read(Names(lambda name: True).answer(header + question))


@given(st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20})(\.[a-z0-9][a-z0-9-]{0,20}){0,4}\.[a-z]{1,8}", fullmatch=True))
def test_every_host_name_is_asked_for_as_it_is(name: str) -> None:
    asked: list[str] = []

    def find(name: str) -> bool:
        asked.append(name)
        return True

    names = Names(find)
    code, addresses = read(names.answer(query(name)))
    if not name.endswith(".localhost"):
        assert (code, asked) == (NO_ERROR, [name])
        assert names.name_of(addresses[0]) == name


SERVE_AND_RESOLVE = """
import fcntl, socket, struct, subprocess, sys, threading
from klock.recorder.names import Names

subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc"], check=True)
with open("/etc/nsswitch.conf", "w") as file:
    file.write("hosts: dns\\n")
with open("/etc/resolv.conf", "w") as file:
    file.write("nameserver 127.0.0.1\\n")
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
set_flags, up_and_running = 0x8914, 0x41
fcntl.ioctl(server, set_flags, struct.pack("16sh14x", b"lo", up_and_running))
server.bind(("127.0.0.1", 53))
names = Names(lambda name: name.endswith("example.org"))

def serve():
    while True:
        message, peer = server.recvfrom(4096)
        server.sendto(names.answer(message), peer)

threading.Thread(target=serve, daemon=True).start()
for name in ("deb.example.org", "nowhere.example.com"):
    try:
        print({item[4][0] for item in socket.getaddrinfo(name, 80)})
    except socket.gaierror as error:
        print(error.errno == socket.EAI_NONAME)
"""


@pytest.mark.integration
def test_the_c_library_resolves_with_it(names: Names) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
    command = [*unshare, sys.executable, "-c", SERVE_AND_RESOLVE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == f"{{'{names.address_of('deb.example.org')}'}}\nTrue\n"
