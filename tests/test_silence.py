"""A server that takes connections and says nothing is given up soon, however it is asked: by a clock of the test."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast

import pytest
from urllib3 import BaseHTTPResponse, HTTPHeaderDict
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, ReadTimeoutError

from klock.connections import connected, reason_of
from klock.errors import FetchError
from klock.fetching import transport
from klock.fetching.mirrors import Mirrors
from klock.fetching.pace import paced_pools
from klock.fetching.transport import Transport, Unreachable
from klock.oci.credentials import DockerConfig
from klock.oci.reference import Reference
from klock.oci.writing import Outgoing, WritableRepository, content_reader
from klock.packages.credentials import Credentials
from klock.packages.fetch import fetch_unhashed
from klock.packages.index_pages import IndexPages
from klock.packages.indexes import Index
from klock.recorder import upstream
from klock.recorder.exchange import Request
from klock.recorder.redaction import Redaction
from klock.recorder.report import Notes
from klock.recorder.upstream import Upstream
from klock.store import Store
from tests.test_registry_repository import BLOB, DIGEST

URL = "http://h.example/x"
MINUTE = 60.0


class Clock:
    """`silent` says of the number of a try whether its connection is silent; it breaks otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.tries = 0
        self.silent: Callable[[int], bool] = lambda _: True
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.wait)

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(monkeypatch)

    class Silent(HTTPConnection):
        is_closed = False

        def connect(self) -> None: ...

        def request(self, *_: Any, **__: Any) -> None: ...

        def getresponse(self) -> Any:
            clock.tries += 1
            if not clock.silent(clock.tries):
                raise HTTPException("it breaks")
            assert self.timeout is not None
            clock.wait(self.timeout)
            raise TimeoutError("timed out")

    class Pool(HTTPConnectionPool):
        ConnectionCls = Silent

    pools = {"http": Pool, "https": Pool}
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transport, "paced_pools", lambda: pools)
    monkeypatch.setattr("klock.recorder.pools.pools_by_scheme", lambda _: (pools, pools))
    transport.shared_transport.cache_clear()
    return clock


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    transport.shared_transport.cache_clear()


def repository() -> WritableRepository:
    name = Reference.parse("127.0.0.1:5000/a/b:v1")
    config = DockerConfig({}, path=Path("config.json"))
    return WritableRepository(name, mirrors=Mirrors(), transport=Transport(), config=config)


def stream() -> None:
    next(Transport().stream(URL, dict, on_refusal=lambda *_: False))


def wheel(folder: Path) -> None:
    fetch_unhashed(URL, Store(folder), credentials=Credentials(), name="p.whl")


def page() -> None:
    IndexPages(credentials=Credentials(), list_folder=lambda _: []).offers(Index(url=URL), "p")


ASKED: dict[str, Callable[[Path], object]] = {
    "an answer": lambda _: Transport().get(URL),
    "a body": lambda _: stream(),
    "a manifest": lambda _: repository().root(),
    "whether a blob is there": lambda _: repository().has_blob(DIGEST, 1),
    "a page of an index": lambda _: page(),
    "a wheel": wheel,
}


@pytest.mark.parametrize("case", ASKED)
def test_two_silences_are_enough(case: str, clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="it takes connections, but sends nothing") as caught:
        ASKED[case](tmp_path)
    assert caught.value.hint is not None and caught.value.hint.startswith("it may hang, or a firewall")
    assert clock.tries == 2
    assert 2 * MINUTE <= clock.now < 2.1 * MINUTE


def test_what_is_sent_is_not_sent_again(clock: Clock) -> None:
    with pytest.raises(FetchError, match="sends nothing"):
        repository().upload(Outgoing(digest=DIGEST, size=len(BLOB), read=content_reader(BLOB)))
    assert (clock.tries, clock.now) == (1, MINUTE)


def test_connections_that_break_are_tried_more_often_but_not_beside_silence(clock: Clock) -> None:
    clock.silent = lambda number: number in (1, 4)
    with pytest.raises(Unreachable, match="sends nothing"):
        Transport(pause=0).get(URL)
    assert clock.tries == 4
    clock.tries, clock.silent = 0, lambda _: False
    with pytest.raises(Unreachable, match="HTTPException"):
        Transport(pause=0).get(URL)
    assert clock.tries == 6


def test_there_is_no_more_time_than_was_given(clock: Clock) -> None:
    with pytest.raises(Unreachable):
        Transport(left=lambda: 20 - clock.now).get(URL)
    assert (clock.tries, clock.now) == (1, 20)


def test_a_step_s_request(clock: Clock) -> None:
    asked = Request(method="GET", url=URL, headers=(), body=b"")
    server = Upstream(notes=Notes(Redaction(secrets=(), private_urls=())))
    with pytest.raises(upstream.Unreachable, match="reached: it takes connections, but sends nothing"):
        server.fetch(asked)
    assert clock.tries == 2


class Body:
    """Answers whose bodies break off: `pieces` are what each answer brings, and whether it then says nothing."""

    def __init__(self, *pieces: tuple[int, bool]) -> None:
        self._left = list(pieces)

    def open(self, *_: object, **__: object) -> BaseHTTPResponse:
        size, is_silent = self._left.pop(0)
        chunks = iter([bytes(size)] if size else [])
        ending: Exception = ReadTimeoutError(cast("Any", None), URL, "Read timed out.") if is_silent else HTTPError()

        class Answer:
            status = 206
            headers = HTTPHeaderDict()

            def read1(self, *_: object, **__: object) -> bytes:
                if chunk := next(chunks, b""):
                    return chunk
                raise ending

            def close(self) -> None: ...

        return cast("BaseHTTPResponse", Answer())

    def received(self, monkeypatch: pytest.MonkeyPatch) -> int:
        monkeypatch.setattr(Transport, "_open", self.open)
        count = 0
        with pytest.raises(Unreachable):
            for chunk in Transport(pause=0).stream(URL, dict, on_refusal=lambda *_: False):
                count += len(chunk)
        assert not self._left
        return count


MIB = 1 << 20


@pytest.mark.parametrize(
    "pieces",
    [
        [(9, True), (9, True)],
        [(9, True), (9, False), (9, True)],
        [(9, False)] * 5,
        [(MIB, True), (MIB, True), (MIB, True), (9, True)],
        [(MIB, False)] * 9 + [(9, False)] * 4,
    ],
    ids=["silent twice", "with a break between", "broken five times", "silent, but it comes", "broken, but it comes"],
)
def test_a_body_is_taken_up_while_it_comes(pieces: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert Body(*pieces).received(monkeypatch) == sum(size for size, _ in pieces)


@pytest.mark.parametrize(("addresses", "seconds"), [(1, 15), (3, 15), (12, 24)])
def test_the_addresses_of_a_host_share_the_time_to_connect(
    addresses: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that drops everything: each address has two seconds at least."""
    clock = Clock(monkeypatch)
    asked: list[object] = []

    class Dropped:
        def __init__(self, *_: object) -> None: ...

        def setsockopt(self, *_: object) -> None: ...

        def settimeout(self, seconds: float) -> None:
            self._seconds = seconds

        def connect(self, place: object) -> None:
            asked.append(place)
            clock.wait(self._seconds)
            raise TimeoutError("timed out")

        def close(self) -> None: ...

    monkeypatch.setattr("socket.socket", Dropped)
    places = [(int(socket.AF_INET), (f"192.0.2.{number}", 443)) for number in range(addresses)]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(f, 1, 6, "", place) for f, place in places])
    connection = paced_pools()["http"]("h.example", timeout=15).ConnectionCls("h.example", timeout=15)
    with pytest.raises(ConnectTimeoutError) as caught:
        connection.connect()
    assert reason_of(caught.value) == "it does not answer"
    assert asked == [place for _, place in places]
    assert clock.now == pytest.approx(seconds)


def test_the_next_address_takes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        places = [(socket.AF_INET, ("127.0.0.2", 1)), (socket.AF_INET, ("127.0.0.1", port))]
        with connected(HTTPConnection("h.example", timeout=15), [(int(f), place) for f, place in places]) as made:
            assert made.getpeername() == ("127.0.0.1", port)
            assert made.gettimeout() == 15
