"""A registry that lies, drips, floods or leads astray: klock ends with an error that names it, soon, and takes nothing.

What a registry says of a push is in test_registry_repository.py, of a base in test_bases_registry.py.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from klock.digests import digest_of_bytes
from klock.errors import FetchError, HashMismatch, KlockError
from klock.fetching import pace, transport
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Transport
from klock.lockfile.model import LayerLock, OciBlob
from klock.oci.credentials import DockerConfig
from klock.oci.reference import Reference
from klock.oci.repository import Repository
from klock.oci.writing import Outgoing, WritableRepository, content_reader
from klock.registry.layers import blob_of, largest_archive, refuse_larger
from klock.registry.pull import find_image
from klock.registry.referrers import attached

Wire = Callable[[bytes, Callable[[bytes], None]], None]
"""What a server does with the head of a request; it sends with the function."""

DIGEST = f"sha256:{'1' * 64}"
KIND = "application/vnd.dsse.envelope.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@contextmanager
def wire(answer: Wire) -> Iterator[str]:
    """A server that may say anything at all, and the host that it is at."""
    over = threading.Event()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            try:
                answer(head, self.send)
            except OSError:
                return

        def send(self, content: bytes) -> None:
            if over.is_set():
                raise OSError
            self.wfile.write(content)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            over.set()
            server.shutdown()
            thread.join()


def repository(host: str) -> WritableRepository:
    return WritableRepository(
        Reference.parse(f"{host}/a/b:v1"),
        mirrors=Mirrors(),
        transport=Transport(pause=0),
        config=DockerConfig({}, path=Path("config.json")),
        pause=0,
    )


def answer_with(body: bytes, *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    announced = [f"Content-Length: {len(body)}"] if length else []
    head = [f"HTTP/1.1 {status}", "Connection: close", *headers, *announced, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def always(*pieces: bytes) -> Wire:
    def answer(_: bytes, send: Callable[[bytes], None]) -> None:
        for piece in pieces:
            send(piece)

    return answer


def without_end(start: bytes, piece: bytes, pause: float = 0.0) -> Wire:
    def answer(_: bytes, send: Callable[[bytes], None]) -> None:
        send(start)
        wait = threading.Event()
        while True:
            send(piece)
            wait.wait(pause)

    return answer


# -- answers that are read as a whole


OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS: dict[str, tuple[Wire, str]] = {
    "a body without end": (without_end(OK + b"\r\n", b"x" * 65536), "is longer than 16 MiB"),
    "chunks without end": (
        without_end(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b"x" * 0x8000 + b"\r\n"),
        "is longer than 16 MiB",
    ),
    "what unpacks to gigabytes": (
        always(answer_with(gzip.compress(bytes(64 << 20), 9), "Content-Encoding: gzip")),
        "is longer than 16 MiB",
    ),
    "a byte now and then": (without_end(OK + b"Content-Length: 99999\r\n\r\n", b"x", 0.02), "it sends next to nothing"),
    "a head byte by byte": (without_end(OK + b"X: ", b"x", 0.02), "it sends next to nothing"),
    "a head without end": (without_end(OK, b"X: y\r\n"), "cannot reach"),
    "a line without end": (without_end(OK + b"X: ", b"x" * 65536), "cannot reach"),
    "interim answers without end": (without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "cannot reach"),
    "trailers without end": (
        without_end(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
        "cannot reach",
    ),
    "less than it says": (always(answer_with(b"{}", "Content-Length: 9", length=False)), "cannot reach"),
    "lengths that differ": (always(answer_with(b"{}", "Content-Length: 9")), "cannot reach"),
    "no HTTP": (always(b"\x15\x03\x01\x00\x02\x02\x46"), "cannot reach"),
    "a redirect to itself": (
        always(answer_with(b"", "Location: /v2/a/b/manifests/v1", status="307 Temporary Redirect")),
        "cannot reach",
    ),
    "a redirect that is no address": (
        always(answer_with(b"", "Location: http://[::1", status="307 Temporary Redirect")),
        "redirects to what is not a URL",
    ),
    "a redirect to a file": (
        always(answer_with(b"", "Location: file:///etc/passwd", status="307 Temporary Redirect")),
        "a URL of the kind file:",
    ),
    "come back in a million years": (
        always(answer_with(b"", f"Retry-After: {'9' * 5000}", status="503 Service Unavailable")),
        "answered with status 503",
    ),
    "come back in a year that is none": (
        always(answer_with(b"", "Retry-After: Mon, 99 Foo 99999999 99:99:99 +9999", status="429 Too Many Requests")),
        "answered with status 429",
    ),
    "deep brackets": (always(answer_with(b"[" * 100_000)), "is damaged"),
    "a number": (always(answer_with(b"5")), "is damaged"),
    "a digest that is not its own": (
        always(answer_with(b"{}", f"Docker-Content-Digest: {DIGEST}")),
        f"announced {DIGEST} and sent",
    ),
}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_WINDOW", 0.3)


@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.usefixtures("hasty")
def test_a_manifest(case: str) -> None:
    answer, message = ANSWERS[case]
    with wire(answer) as host, pytest.raises(KlockError) as caught:
        find_image(LOCK, repository(host))
    assert message in caught.value.message
    assert host.partition(":")[0] in caught.value.message


LOCK: Any = None
"""Nothing of it is looked at: no answer gets that far."""


@pytest.mark.usefixtures("hasty")
def test_an_answer_that_goes_on_and_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too quick for the pace, too slow for the size."""
    monkeypatch.setattr(pace, "_FEWEST", 0)
    monkeypatch.setattr(transport, "_LONGEST_READING", 0.3)
    answer = without_end(OK + b"\r\n", b"x", 0.01)
    with wire(answer) as host, pytest.raises(FetchError, match="its answer does not end"):
        repository(host).root()


# -- blobs


def blobs(size: int) -> dict[str, tuple[Wire, str]]:
    return {
        "without end": (without_end(OK + b"\r\n", b"x" * 65536), ""),
        "a byte now and then": (
            without_end(OK + f"Content-Length: {size}\r\n\r\n".encode(), b"x", 0.02),
            "it sends next to nothing",
        ),
        "another range": (
            always(answer_with(b"x" * size, "Content-Range: bytes 7-9/10", status="206 Partial Content")),
            "",
        ),
    }


@pytest.mark.parametrize("case", blobs(0))
@pytest.mark.usefixtures("hasty")
def test_a_blob(case: str) -> None:
    """At most one piece more than it has comes, whatever the server sends; who asked compares the digest."""
    blob = OciBlob(digest=DIGEST, size=1 << 20, media_type="x")
    answer, message = blobs(blob.size)[case]
    with wire(answer) as host:
        if message:
            with pytest.raises(FetchError, match=message):
                b"".join(repository(host).blob(blob))
        else:
            assert len(b"".join(repository(host).blob(blob))) <= blob.size + (1 << 18)


@pytest.mark.parametrize(
    "descriptor",
    [
        {"digest": "sha256:../../../etc/passwd", "size": 1, "mediaType": "x"},
        {"digest": DIGEST, "size": -1, "mediaType": "x"},
        {"digest": DIGEST, "size": True, "mediaType": "x"},
        {"digest": DIGEST, "size": 1.5, "mediaType": "x"},
        {"digest": DIGEST, "size": 1, "mediaType": ["x"]},
        {"digest": f"{DIGEST}\n", "size": 1, "mediaType": "x"},
        {"digest": DIGEST.upper(), "size": 1, "mediaType": "x"},
        [],
    ],
)
def test_a_descriptor_that_is_none_is_refused(descriptor: object) -> None:
    with pytest.raises(FetchError, match="a blob has an invalid descriptor"):
        blob_of(descriptor, "reg.example/a")


def test_a_blob_larger_than_what_is_locked_could_be_is_not_asked_for() -> None:
    """A registry may send as much as it said, and nothing but the locked sizes says what is too much."""
    layer = LayerLock(digest=DIGEST, files=3, size=1000)
    blob = OciBlob(digest=DIGEST, size=largest_archive(layer), media_type="x")
    refuse_larger(blob, largest_archive(layer), "reg.example/a")
    with pytest.raises(FetchError, match="more than what is locked could have"):
        refuse_larger(replace(blob, size=1 << 40), largest_archive(layer), "reg.example/a")


# -- lists


def by_path(answers: dict[str, bytes], otherwise: bytes = answer_with(b"{}", status="404 Not Found")) -> Wire:
    """Answers by how the path begins, the longest first."""

    def answer(head: bytes, send: Callable[[bytes], None]) -> None:
        path = head.split()[1].decode()
        found = max((start for start in answers if path.startswith(start)), key=len, default=None)
        send(answers[found] if found is not None else otherwise)

    return answer


@pytest.mark.parametrize(
    "link",
    ["<http://[>; rel=next", "<" * 60_000, '<?n=1>; rel="next"', "</v2/a/b/tags/list?last=\x1b[2J>; rel=next"],
    ids=["no address", "brackets", "itself", "escapes"],
)
def test_a_list_of_tags_that_leads_on_ends(link: str) -> None:
    page = answer_with(b'{"tags": ["one", 5, "../../x"]}', f"Link: {link}")
    with wire(always(page)) as host:
        tags = Repository.tags(repository(host))
    assert set(tags) == {"one", "../../x"} and len(tags) <= 20


# -- what is attached to an image


def envelope(text: bytes, *, size: int | None = None, as_digest: str | None = None) -> tuple[bytes, bytes, str]:
    """A manifest of an attached document, the document, and the manifest's digest."""
    layer = {
        "mediaType": KIND,
        "digest": as_digest or digest_of_bytes(text),
        "size": len(text) if size is None else size,
    }
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer]}).encode()
    return manifest, text, digest_of_bytes(manifest)


def entry(manifest: bytes, **changed: object) -> dict[str, object]:
    digest = digest_of_bytes(manifest)
    return {"mediaType": MANIFEST, "digest": digest, "size": len(manifest), "artifactType": KIND, **changed}


def read_attached(host: str) -> tuple[list[bytes], list[str]]:
    """The documents that could be read, and why others could not."""
    found, reasons = [], []
    for documents in attached(repository(host), DIGEST, media_type=KIND):
        try:
            found += list(documents())
        except KlockError as error:
            reasons.append(error.message)
    return found, reasons


def test_what_is_broken_does_not_hide_what_is_whole() -> None:
    """Everybody who may push can attach something, and a registry can list anything."""
    good, text, _ = envelope(b"good")
    other, _, _ = envelope(b"x", as_digest=digest_of_bytes(b"y"))
    huge, _, _ = envelope(b"x", size=1 << 40)
    gone, _, _ = envelope(b"gone")
    entries = [
        entry(good, digest="sha256:../../etc"),
        entry(good, size=7),
        entry(other),
        entry(huge),
        entry(gone),
        {"artifactType": KIND},
        entry(b"[]"),
        entry(good),
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [5, *entries, None]}).encode()
    answers = {"/v2/a/b/referrers/": answer_with(index)}
    for content in (good, other, huge, b"[]"):
        answers[f"/v2/a/b/manifests/{digest_of_bytes(content)}"] = answer_with(content)
    answers[f"/v2/a/b/blobs/{digest_of_bytes(text)}"] = answer_with(text)
    answers[f"/v2/a/b/blobs/{digest_of_bytes(b'y')}"] = answer_with(b"z")
    with wire(by_path(answers)) as host:
        found, reasons = read_attached(host)
    assert found == [b"good"]
    assert len(reasons) == len(entries) - 1
    assert any("more than klock reads" in reason for reason in reasons)
    assert any("sent other bytes for" in reason for reason in reasons)


def test_referrers_are_read_page_by_page_and_only_so_many() -> None:
    good, text, _ = envelope(b"good")
    pages = io.StringIO()

    def answer(head: bytes, send: Callable[[bytes], None]) -> None:
        path = head.split()[1].decode()
        if "/referrers/" not in path:
            send(answer_with(good if "/manifests/" in path else text))
            return
        print(path, file=pages)
        index = json.dumps({"schemaVersion": 2, "manifests": [entry(good)] * 30}).encode()
        send(answer_with(index, f"Link: </v2/a/b/referrers/{DIGEST}?n=1&last=x>; rel=next"))

    with wire(answer) as host:
        found, reasons = read_attached(host)
    assert (found, reasons) == ([b"good"] * 100, [])
    asked = pages.getvalue().splitlines()
    assert len(asked) == 10
    assert asked[0].endswith("?artifactType=application%2Fvnd.dsse.envelope.v1%2Bjson")
    assert set(asked[1:]) == {f"/v2/a/b/referrers/{DIGEST}?n=1&last=x"}


# -- where a registry sends klock


@pytest.mark.parametrize(
    "realm", ["http://127.0.0.1:1/token", "https://169.254.169.254/token", "https://localhost/token"]
)
def test_a_token_service_on_this_machine_is_not_asked_for_a_registry_elsewhere(realm: str) -> None:
    challenge = f'Bearer realm="{realm}",service="x"'
    with wire(always(answer_with(b"", f"WWW-Authenticate: {challenge}", status="401 Unauthorized"))) as host:
        source = repository(host)
        source._authentication._name = "reg.example"
        with pytest.raises(FetchError, match="which is this machine or a link-local address; klock does not"):
            source.root()


@pytest.mark.parametrize("range_", ["0-" + "9" * 5000, "0-99999999999999999", "bytes=0-x", "7-9"])
def test_an_upload_of_which_the_registry_has_a_wondrous_part_ends(range_: str) -> None:
    """It breaks, and then the registry says where to go on."""
    content = b"x" * 100_000

    def answer(head: bytes, send: Callable[[bytes], None]) -> None:
        method = head.split()[0]
        if method == b"PATCH":
            return
        place = "Location: /v2/a/b/blobs/uploads/1"
        status = {b"POST": "202 Accepted", b"GET": "204 No Content"}.get(method, "400 Bad Request")
        send(answer_with(b"", place, f"Range: {range_}", status=status))

    with wire(answer) as host, pytest.raises(FetchError) as caught:
        blob = Outgoing(digest=digest_of_bytes(content), size=len(content), read=content_reader(content))
        repository(host).upload(blob)
    assert re.search("cannot reach|status 400", caught.value.message)


def test_another_digest_under_a_digest_is_found_out() -> None:
    with wire(always(answer_with(b"{}"))) as host, pytest.raises(HashMismatch, match="sent other bytes"):
        repository(host).find_document(DIGEST)
