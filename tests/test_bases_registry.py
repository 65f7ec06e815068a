"""How the registry client behaves towards a registry that is slow, strict, moved, broken or hostile.

The registry is a small HTTP server in this process, so that it can do what a real one does only on bad days. What a
good one does is in tests/integration/test_bases_registry.py.
"""

from __future__ import annotations

import base64
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from klock.digests import digest_of_bytes
from klock.errors import FetchError, HashMismatch
from klock.fetching.downloads import THREAD_NAME, Wanted, download
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Transport
from klock.lockfile.model import OciBlob
from klock.oci.credentials import DockerConfig
from klock.oci.reference import Reference
from klock.oci.repository import Repository
from klock.progress import Quiet
from klock.proxies import is_loopback
from klock.store import Store

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST = b'{"schemaVersion":2}'
BLOB = bytes(range(256)) * 8192
BLOB_DIGEST = digest_of_bytes(BLOB)
BLOB_DESCRIPTOR = OciBlob(digest=BLOB_DIGEST, size=len(BLOB), media_type="x")


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: str


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Simulator:
    """Answers by `answer`, and remembers what it was asked. An answer's body may be shorter than its Content-Length."""

    answer: Callable[[Asked], Answer]
    asked: list[Asked] = field(default_factory=list)
    host: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


@contextmanager
def serve(answer: Callable[[Asked], Answer]) -> Iterator[Simulator]:
    simulator = Simulator(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            asked = Asked(self.command, self.path, dict(self.headers), body)
            simulator.asked.append(asked)
            status, headers, content = simulator.answer(asked)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            if int(headers.get("Content-Length", len(content))) != len(content):
                self.close_connection = True

        do_GET = do_HEAD = do_POST = handle_any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def server_bind(self) -> None:
            # Without a look-up of this machine's own name.
            socketserver.TCPServer.server_bind(self)
            self.server_name, self.server_port = "localhost", self.server_address[1]

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        simulator.host = f"127.0.0.1:{server.server_port}"
        try:
            yield simulator
        finally:
            server.shutdown()
            thread.join()


def repository(simulator: Simulator, *, config: dict[str, Any] | None = None, name: str = "team/tool:v1") -> Repository:
    return Repository(
        Reference.parse(f"{simulator.host}/{name}"),
        mirrors=Mirrors(),
        transport=Transport(pause=0.001),
        config=DockerConfig(config or {}, path=Path("config.json")),
    )


def manifest(status: int = 200, *, announced: str | None = None) -> Answer:
    digest = {"Docker-Content-Digest": announced} if announced else {}
    return status, {"Content-Type": MANIFEST_TYPE, **digest}, MANIFEST


def fetch(source: Repository, store: Store, blob: OciBlob = BLOB_DESCRIPTOR) -> None:
    wanted = Wanted(digest=blob.digest, size=blob.size, name="the blob", open=lambda: source.blob(blob))
    download([wanted], task="fetch", store=store, offline=False, progress=Quiet())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# -- tokens


TOKEN_REALM = "/token"


def with_token(
    serve_it: Callable[[Asked], Answer], *, valid: list[str], issue: Callable[[Asked], Answer]
) -> Callable[..., Answer]:
    """A registry that wants one of the `valid` Bearer tokens, which `issue` gives."""

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith(TOKEN_REALM):
            return issue(asked)
        if asked.headers.get("Authorization") not in [f"Bearer {token}" for token in valid]:
            realm = f"http://{asked.headers['Host']}{TOKEN_REALM}"
            challenge = f'Bearer realm="{realm}",service="tests",scope="repository:team/tool:pull"'
            return 401, {"WWW-Authenticate": challenge}, b"{}"
        return serve_it(asked)

    return answer


def test_a_token_is_got_once_and_used_from_then_on() -> None:
    def issue(asked: Asked) -> Answer:
        assert "Authorization" not in asked.headers, "nobody is logged in"
        return 200, {}, b'{"token": "T1"}'

    with serve(with_token(lambda _: manifest(), valid=["T1"], issue=issue)) as simulator:
        source = repository(simulator)
        source.root()
        source.root()

    assert simulator.paths() == [
        "/v2/team/tool/manifests/v1",
        "/token?service=tests&scope=repository%3Ateam%2Ftool%3Apull",
        "/v2/team/tool/manifests/v1",
        "/v2/team/tool/manifests/v1",
    ]


def test_an_expired_token_is_replaced() -> None:
    valid = ["T1"]
    tokens = iter(["T1", "T2"])

    def issue(_: Asked) -> Answer:
        return 200, {}, json.dumps({"access_token": next(tokens)}).encode()

    with serve(with_token(lambda _: manifest(), valid=valid, issue=issue)) as simulator:
        source = repository(simulator)
        source.root()
        valid[:] = ["T2"]
        assert source.root().content == MANIFEST


def test_a_token_that_expires_before_a_blob_is_replaced_too(store: Store) -> None:
    valid = ["T1"]
    tokens = iter(["T1", "T2"])

    def issue(_: Asked) -> Answer:
        return 200, {}, json.dumps({"token": next(tokens)}).encode()

    with serve(with_token(lambda a: (200, {}, BLOB), valid=valid, issue=issue)) as simulator:
        source = repository(simulator)
        fetch(source, store, OciBlob(digest=BLOB_DIGEST, size=len(BLOB), media_type="x"))
        store.blob_path(BLOB_DIGEST).unlink()
        valid[:] = ["T2"]
        fetch(source, store)

    assert store.verify_blob(BLOB_DIGEST)


def test_credentials_go_to_the_token_service_and_not_to_the_registry() -> None:
    basic = "Basic " + base64.b64encode(b"user:secret").decode()

    def issue(asked: Asked) -> Answer:
        return (200, {}, b'{"token": "T1"}') if asked.headers.get("Authorization") == basic else (401, {}, b"")

    with serve(with_token(lambda _: manifest(), valid=["T1"], issue=issue)) as simulator:
        auths = {"auths": {simulator.host: {"username": "user", "password": "secret"}}}
        repository(simulator, config=auths).root()

    sent = {asked.headers.get("Authorization") for asked in simulator.asked if asked.path.startswith("/v2/")}
    assert sent == {None, "Bearer T1"}


def test_an_identity_token_is_exchanged_in_the_body_of_a_post() -> None:
    def issue(asked: Asked) -> Answer:
        assert (asked.method, asked.path) == ("POST", TOKEN_REALM)
        assert parse_qs(asked.body) == {
            "grant_type": ["refresh_token"],
            "refresh_token": ["I1"],
            "client_id": ["klock"],
            "service": ["tests"],
            "scope": ["repository:team/tool:pull"],
        }
        return 200, {}, b'{"access_token": "T1"}'

    with serve(with_token(lambda _: manifest(), valid=["T1"], issue=issue)) as simulator:
        assert repository(simulator, config={"auths": {simulator.host: {"identitytoken": "I1"}}}).root()


def test_a_refused_token_request_asks_to_log_in() -> None:
    with serve(with_token(lambda _: manifest(), valid=["T1"], issue=lambda _: (401, {}, b""))) as simulator:
        with pytest.raises(FetchError) as error:
            repository(simulator).root()
        with pytest.raises(FetchError) as again:
            repository(simulator, config={"auths": {simulator.host: {"username": "u", "password": "p"}}}).root()

    assert error.value.message == f"{simulator.host} wants credentials, or there is no such repository"
    assert error.value.hint == f"check the name; if it is private, run `docker login {simulator.host}`"
    assert "does not accept the login that this machine has" in again.value.message


def test_a_registry_that_refuses_every_token_is_not_asked_for_ever() -> None:
    with serve(with_token(lambda _: manifest(), valid=[], issue=lambda _: (200, {}, b'{"token":"T"}'))) as simulator:
        with pytest.raises(FetchError, match="wants credentials"):
            repository(simulator).root()
        assert len(simulator.asked) <= 6


@pytest.mark.parametrize(
    "realm", ["http://auth.example/token", "ftp://auth.example/token", "nonsense", "https://[::1/token"]
)
def test_a_token_service_that_is_not_https_gets_no_credentials(realm: str) -> None:
    def answer(asked: Asked) -> Answer:
        return 401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}, b""

    with serve(answer) as simulator:
        # As if it were asked over https; loopback itself is not.
        source = repository(simulator)
        source._authentication._secure = True
        with pytest.raises(FetchError) as error:
            source.root()

    asked = f"{simulator.host} sends klock for a token to {realm!r}"
    assert error.value.message == f"{asked}, which is not an https address"


# -- redirects


def test_a_redirect_to_another_host_gets_no_authorization(store: Store) -> None:
    with serve(lambda _: (200, {}, BLOB)) as storage:
        redirect = 307, {"Location": f"{storage.url}/signed?signature=s"}, b""
        with serve(
            with_token(lambda _: redirect, valid=["T1"], issue=lambda _: (200, {}, b'{"token":"T1"}'))
        ) as simulator:
            fetch(repository(simulator), store)

    assert [asked.path for asked in storage.asked] == ["/signed?signature=s"]
    assert "Authorization" not in storage.asked[0].headers
    assert store.verify_blob(BLOB_DIGEST)


def test_a_failing_storage_is_named_without_its_signature(store: Store) -> None:
    with serve(lambda _: (403, {}, b"")) as storage:
        redirect = 307, {"Location": f"{storage.url}/signed?signature=s3cret"}, b""
        with serve(lambda _: redirect) as simulator, pytest.raises(FetchError) as error:
            fetch(repository(simulator), store)

    assert "s3cret" not in error.value.message + str(error.value.hint)


# -- bad days


def test_a_busy_registry_is_asked_again() -> None:
    statuses = iter([503, 429, 500, 200])
    with serve(lambda _: manifest(next(statuses))) as simulator:
        assert repository(simulator).root().content == MANIFEST
    assert len(simulator.asked) == 4


def test_a_registry_that_stays_down_is_reported_with_its_status() -> None:
    with serve(lambda _: manifest(503)) as simulator, pytest.raises(FetchError) as error:
        repository(simulator).root()

    name = f"{simulator.host}/team/tool:v1"
    assert error.value.message == f"{name}: {simulator.host} answered with status 503"
    assert error.value.hint == "try again later"


def test_a_broken_transfer_is_taken_up_where_it_broke(store: Store) -> None:
    def answer(asked: Asked) -> Answer:
        start = int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        rest = BLOB[start:]
        half = rest[: max(len(rest) // 2, 300_000)]
        return (206 if start else 200), {"Content-Length": str(len(rest))}, half

    with serve(answer) as simulator:
        fetch(repository(simulator), store)

    assert len(simulator.asked) > 1
    assert all("Range" in asked.headers for asked in simulator.asked[1:])
    assert store.verify_blob(BLOB_DIGEST)


def test_a_server_without_ranges_is_read_from_the_start_again(store: Store) -> None:
    lengths = iter([1_000_000, len(BLOB)])

    def answer(_: Asked) -> Answer:
        return 200, {"Content-Length": str(len(BLOB))}, BLOB[: next(lengths)]

    with serve(answer) as simulator:
        fetch(repository(simulator), store)

    assert store.verify_blob(BLOB_DIGEST)
    assert len(simulator.asked) == 2


def test_a_transfer_that_always_breaks_ends_in_an_error(store: Store) -> None:
    with serve(lambda _: (200, {"Content-Length": "100"}, b"")) as simulator, pytest.raises(FetchError) as error:
        fetch(repository(simulator), store)

    assert error.value.message.startswith(f"cannot reach {simulator.host}: ")
    assert len(simulator.asked) == 5


# -- lies


LIES: dict[str, tuple[bytes, str]] = {
    "other bytes": (
        b"?" + BLOB[1:],
        f"the blob: hash mismatch: locked {BLOB_DIGEST}, received {digest_of_bytes(b'?' + BLOB[1:])}",
    ),
    "too few bytes": (BLOB[:-1], f"the blob: {len(BLOB) - 1} bytes arrived, the locked size is {len(BLOB)}"),
    "too many bytes": (BLOB + b"!", f"the blob: more than the locked {len(BLOB)} bytes arrived"),
}


@pytest.mark.parametrize(("content", "message"), LIES.values(), ids=LIES.keys())
def test_a_blob_that_is_not_what_was_locked_is_not_kept(content: bytes, message: str, store: Store) -> None:
    with serve(lambda _: (200, {}, content)) as simulator, pytest.raises(HashMismatch) as error:
        fetch(repository(simulator), store)

    assert error.value.message == message
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_manifest_by_digest_must_have_that_digest() -> None:
    blob = OciBlob(digest="sha256:" + "0" * 64, size=len(MANIFEST), media_type=MANIFEST_TYPE)
    with serve(lambda _: manifest()) as simulator:
        source = repository(simulator)
        with pytest.raises(HashMismatch, match=f"sent other bytes for the manifest {blob.digest}"):
            source.manifest(blob)
        with pytest.raises(HashMismatch, match="sent a manifest with another digest, sha256:"):
            repository(simulator, name=f"team/tool@{blob.digest}").root()


def test_an_announced_digest_must_be_the_contents() -> None:
    announced = "sha256:" + "1" * 64
    with serve(lambda _: manifest(announced=announced)) as simulator, pytest.raises(HashMismatch) as error:
        repository(simulator).root()

    assert error.value.message == (
        f"{simulator.host}/team/tool:v1: {simulator.host} announced {announced} and sent {digest_of_bytes(MANIFEST)}"
    )


def test_an_endless_manifest_is_not_read_to_the_end() -> None:
    with serve(lambda _: (200, {}, b" " * ((16 << 20) + 1))) as simulator, pytest.raises(FetchError) as error:
        repository(simulator).root()

    assert error.value.message.endswith("is longer than 16 MiB")


# -- where a registry is asked


def test_a_mirror_is_asked_instead_and_may_have_a_path() -> None:
    with serve(lambda _: manifest()) as simulator:
        for mirror in (simulator.url, f"{simulator.url}/hub", f"{simulator.url}/v2/hub/"):
            mirrors = Mirrors.from_settings(registries={"docker.io": mirror})
            config = DockerConfig({}, path=Path("c"))
            source = Repository(Reference.parse("python:3"), mirrors=mirrors, transport=Transport(), config=config)
            assert source.root().content == MANIFEST
            assert source.name == "docker.io/library/python:3"

    assert simulator.paths() == [
        "/v2/library/python/manifests/3",
        "/v2/hub/library/python/manifests/3",
        "/v2/hub/library/python/manifests/3",
    ]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "[::1]", "registry.localhost"])
def test_loopback_is_asked_over_http(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "10.0.0.1", "128.0.0.1", ""])
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)


# -- several at once


def test_the_first_failure_stops_the_others_and_no_thread_is_left(store: Store) -> None:
    blobs = [str(i).encode() * 1000 for i in range(20)]

    def wanted(content: bytes) -> Wanted:
        def chunks() -> Iterator[bytes]:
            if content == blobs[0]:
                raise FetchError("the first one fails")
            yield content

        return Wanted(digest=digest_of_bytes(content), size=len(content), name="x", open=chunks)

    with pytest.raises(FetchError, match="the first one fails"):
        download([wanted(b) for b in blobs], task="t", store=store, offline=False, progress=Quiet())

    assert THREAD_NAME not in [thread.name for thread in threading.enumerate()]


def test_progress_tells_all_bytes_of_what_was_missing(store: Store) -> None:
    class Watcher(Quiet):
        def __init__(self) -> None:
            self.events: list[object] = []
            self.received = 0

        def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
            self.events.append((task, total))

        def advance(self, amount: int) -> None:
            self.received += amount

        def done(self, result: str) -> None:
            self.events.append(result)

    contents = [b"a" * 10, b"b" * 20, b"c" * 30]
    store.add_bytes(contents[0])
    watcher = Watcher()

    def wanted(content: bytes) -> Wanted:
        return Wanted(digest=digest_of_bytes(content), size=len(content), name="x", open=lambda: iter([content]))

    download([wanted(c) for c in [*contents, contents[2]]], task="t", store=store, offline=False, progress=watcher)

    assert watcher.events == [("t", 50), "2 fetched"]
    assert watcher.received == 50
