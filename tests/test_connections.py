"""A redirect leads nowhere that its server has no business with."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import urllib3

from klock.connections import refuse_redirect, retries
from klock.errors import FetchError

REFUSED = {
    "a file": ("h.example", "file:///etc/passwd", "file:"),
    "another scheme": ("h.example", "gopher://h.example/", "gopher:"),
    "this machine": ("h.example", "http://127.0.0.1:8080/", "127.0.0.1"),
    "this machine, by name": ("h.example", "https://localhost/", "localhost"),
    "this machine, shortened": ("h.example", "http://127.1/", "127.1"),
    "this machine, as a number": ("h.example", "http://2130706433/", "2130706433"),
    "this machine, IPv6": ("h.example", "http://[::1]/", "::1"),
    "this machine, IPv4 in IPv6": ("h.example", "http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"),
    "any address": ("h.example", "http://0.0.0.0/", "0.0.0.0"),
    "a cloud's metadata": ("h.example", "http://169.254.169.254/latest", "169.254.169.254"),
    "the link, IPv6": ("h.example", "http://[fe80::1]/", "fe80::1"),
    "not a URL": ("h.example", "http://[::1", "not a URL"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_redirect_that_is_refused(case: str) -> None:
    origin, location, named = REFUSED[case]
    with pytest.raises(FetchError) as caught:
        refuse_redirect(origin, location)
    assert caught.value.message.startswith(f"{origin} redirects to ") and named in caught.value.message


@pytest.mark.parametrize(
    ("origin", "location"),
    [
        ("h.example", "https://cdn.example/x"),
        ("h.example", "/elsewhere"),
        ("h.example", "//cdn.example/x"),
        ("h.example", "http://10.0.0.1/"),
        ("127.0.0.1", "http://127.0.0.1:1/"),
        ("localhost", "http://[::1]/"),
        ("169.254.1.1", "http://169.254.1.2/"),
    ],
)
def test_a_redirect_that_is_followed(origin: str, location: str) -> None:
    refuse_redirect(origin, location)


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", self.path[1:])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://h/x"])
def test_the_retries_of_a_pool_refuse_it(server: HTTPServer, location: str) -> None:
    with (
        urllib3.PoolManager(retries=retries(total=3)) as pool,
        pytest.raises(FetchError, match=r"127\.0\.0\.1 redirects to"),
    ):
        pool.request("GET", f"http://127.0.0.1:{server.server_port}/{location}")


@pytest.mark.parametrize(
    ("told", "waited"), [("3", 3), ("86400", 60), ("Fri, 31 Dec 9999 23:59:59 GMT", 60), (None, None)]
)
def test_no_server_has_klock_wait_for_days(told: str | None, waited: float | None) -> None:
    headers = {} if told is None else {"Retry-After": told}
    assert retries(total=1).get_retry_after(urllib3.HTTPResponse(status=503, headers=headers)) == waited


@pytest.mark.parametrize("reason", ["CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER"])
def test_what_stays_wrong_is_not_asked_again(reason: str) -> None:
    error = urllib3.exceptions.SSLError(ssl.SSLError(1, f"[SSL: {reason}] (_ssl.c:1006)"))
    with pytest.raises(urllib3.exceptions.SSLError):
        retries(total=3).increment("GET", "/", error=error)
    broken = urllib3.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))
    assert retries(total=3).increment("GET", "/", error=broken).total == 2
