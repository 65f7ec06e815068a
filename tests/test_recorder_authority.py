"""The recorder's authority: programs accept its certificates, and no form of one hides from a search."""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from klock.recorder.authority import Authority

HOST = "repo.example.org"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def in_memory_handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """The client's side of a connection between two contexts, without a socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    pending = {ours, theirs}
    while pending:
        for side in (ours, theirs):
            try:
                side.do_handshake()
                pending.discard(side)
            except ssl.SSLWantReadError:
                pass
    return ours


def client_context(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate.decode("ascii"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def certificate_of(authority: Authority, name: str) -> bytes:
    """The certificate (DER) that a client of `name` gets."""
    der = in_memory_handshake(authority.context(name), client_context(authority), name).getpeercert(binary_form=True)
    assert der is not None
    return der


def has_trace(authority: Authority, content: bytes) -> bool:
    return any(trace in content for trace in authority.traces)


@pytest.mark.parametrize(
    "name", [HOST, "a", "under_score.example.org", "xn--bcher-kva.example", "192.0.2.7", "2001:db8::1"]
)
def test_clients_that_check_strictly_accept_the_certificate(authority: Authority, name: str) -> None:
    connection = in_memory_handshake(authority.context(name), client_context(authority), name)
    assert connection.selected_alpn_protocol() == "http/1.1"
    assert connection.version() == "TLSv1.3"


def test_the_certificate_is_for_that_name_only(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        in_memory_handshake(authority.context(HOST), client_context(authority), "other.example.org")


def test_another_authority_is_not_trusted(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        in_memory_handshake(Authority().context(HOST), client_context(authority), HOST)


def test_old_versions_of_tls_are_refused(authority: Authority) -> None:
    assert authority.context(HOST).minimum_version is ssl.TLSVersion.TLSv1_2


def test_what_the_certificate_says_of_itself(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    assert (certificate.not_valid_before_utc.year, certificate.not_valid_after_utc.year) == (2000, 2099)


def test_certificates_of_hosts_are_valid_as_long_as_the_authority(authority: Authority) -> None:
    certificate = x509.load_der_x509_certificate(certificate_of(authority, HOST))
    assert (certificate.not_valid_before_utc.year, certificate.not_valid_after_utc.year) == (2000, 2099)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_two_certificates_have_one_serial_number(authority: Authority) -> None:
    ders = [certificate_of(authority, name) for name in ("one.example", "two.example", "three.example")]
    serials = {x509.load_der_x509_certificate(der).serial_number for der in ders}
    serials.add(x509.load_pem_x509_certificate(authority.certificate).serial_number)
    assert len(serials) == 4


def test_a_context_is_made_once(authority: Authority) -> None:
    assert authority.context("Same.Example.org.") is authority.context("same.example.org")


def test_any_number_of_threads_get_one_context(authority: Authority) -> None:
    found: list[ssl.SSLContext] = []
    threads = [threading.Thread(target=lambda: found.append(authority.context("busy.example"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize("name", ["", "a b", "a..b", "ü.example", "a\n", "x" * 64, ".".join(["abcdefgh"] * 40), "a/b"])
def test_what_is_no_host_name_gets_no_certificate(authority: Authority, name: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        authority.context(name)


def test_keys_are_in_no_file(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def watched(self: ssl.SSLContext, certfile: str) -> None:
        paths.append(str(Path(certfile).readlink()))
        load(self, certfile)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    before = set(map(str, Path("/proc/self/fd").iterdir()))
    authority.context("fresh.example")
    assert paths == ["/memfd:certificate (deleted)"]
    assert set(map(str, Path("/proc/self/fd").iterdir())) == before


# -- traces


def test_two_runs_have_no_trace_in_common() -> None:
    assert not set(Authority().traces) & set(Authority().traces)


@pytest.mark.parametrize("turn", range(20))
def test_every_certificate_has_a_trace_as_der_and_as_pem(turn: int) -> None:
    authority = Authority()
    name = "a" * (turn + 1) + ".example"
    for der in (certificate_of(authority, name), ssl.PEM_cert_to_DER_cert(authority.certificate.decode("ascii"))):
        assert authority.traces[0] in der
        assert authority.traces[1] in ssl.DER_cert_to_PEM_cert(der).encode("ascii")
        assert authority.traces[1] in base64.encodebytes(der)
        assert authority.traces[1] in base64.b64encode(der)


def test_a_bundle_of_other_certificates_has_none(authority: Authority) -> None:
    assert not has_trace(authority, Authority().certificate * 200)
    assert has_trace(authority, Authority().certificate * 200 + authority.certificate)


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


@needs_openssl
@pytest.mark.parametrize(
    "arguments",
    [
        ["-outform", "PEM"],
        ["-outform", "DER"],
        ["-noout", "-text"],
        ["-noout", "-serial"],
        ["-noout", "-subject"],
        ["-noout", "-issuer"],
        ["-noout", "-subject", "-nameopt", "multiline"],
        ["-outform", "PEM", "-trustout", "-setalias", "mine"],
    ],
)
@pytest.mark.parametrize("whose", ["authority", "host"])
def test_what_openssl_writes_has_a_trace(authority: Authority, arguments: list[str], whose: str) -> None:
    pem = authority.certificate
    if whose == "host":
        pem = ssl.DER_cert_to_PEM_cert(certificate_of(authority, HOST)).encode("ascii")
    written = subprocess.run(["openssl", "x509", *arguments], input=pem, capture_output=True, check=True).stdout
    assert has_trace(authority, written)


@needs_openssl
def test_openssl_verifies_it_in_any_year(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    der = certificate_of(authority, HOST)
    leaf = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    (tmp_path / "leaf.pem").write_bytes(leaf)
    in_2090 = "3786912000"
    options = ["-x509_strict", "-purpose", "sslserver", "-attime", in_2090, "-CAfile", str(tmp_path / "ca.pem")]
    subprocess.run(["openssl", "verify", *options, str(tmp_path / "leaf.pem")], capture_output=True, check=True)


# -- real clients


@contextmanager
def https_server(authority: Authority) -> Iterator[int]:
    """Answers one request for each connection, whatever it asks, as the host that the client names."""
    listener = socket.create_server(("127.0.0.1", 0))
    default = authority.context("localhost")

    def choose(connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name:
            connection.context = authority.context(name)

    default.sni_callback = choose

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                with default.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes")
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_accepts_it(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    with https_server(authority) as port:
        options = ["-q", "-sS", "--cacert", str(tmp_path / "ca.pem"), "--resolve", f"{HOST}:{port}:127.0.0.1"]
        command = ["curl", *options, "--noproxy", "*", f"https://{HOST}:{port}/"]
        done = subprocess.run(command, capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"yes", b"")


@pytest.mark.integration
def test_urllib_accepts_it(authority: Authority) -> None:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=client_context(authority))
    )
    with https_server(authority) as port, opener.open(f"https://localhost:{port}/") as answer:
        assert answer.read() == b"yes"


@pytest.mark.integration
@needs_openssl
def test_s_client_accepts_it_and_what_it_prints_has_a_trace(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    with https_server(authority) as port:
        host = ["-connect", f"127.0.0.1:{port}", "-servername", HOST, "-verify_hostname", HOST]
        options = ["-verify_return_error", "-CAfile", str(tmp_path / "ca.pem"), "-showcerts", "-ign_eof"]
        request = b"GET / HTTP/1.1\r\n\r\n"
        done = subprocess.run(["openssl", "s_client", *host, *options], input=request, capture_output=True, check=False)
    assert b"Verify return code: 0 (ok)" in done.stdout
    assert has_trace(authority, done.stdout)
