"""Which headers of an answer are locked, and in what form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.recorder.headers import KEPT, KeptHeader, kept_headers
from klock.recorder.redaction import Redaction


def kept(*headers: tuple[str, str], secrets: tuple[str, ...] = ()) -> tuple[str, ...]:
    return kept_headers(headers, Redaction(secrets=secrets, private_urls=()))


@pytest.mark.parametrize("header", KEPT, ids=lambda header: header.name)
def test_what_changes_a_client_is_kept(header: KeptHeader) -> None:
    assert kept((header.name.lower(), " value ")) == (f"{header.name}: value",)
    assert header.reason


@pytest.mark.parametrize(
    "name",
    [
        "Age",
        "Alt-Svc",
        "Cache-Control",
        "CF-Ray",
        "Connection",
        "Content-Length",
        "Content-Range",
        "Date",
        "ETag",
        "Expires",
        "Last-Modified",
        "Server",
        "Set-Cookie",
        "Strict-Transport-Security",
        "Transfer-Encoding",
        "Vary",
        "X-Amz-Request-Id",
        "X-Cache",
        "X-PyPI-Last-Serial",
        "X-RateLimit-Remaining",
        "X-Xet-Hash",
    ],
)
def test_what_changes_by_itself_is_not(name: str) -> None:
    assert kept((name, "value")) == ()


def test_rules_stand_once_and_in_order() -> None:
    names = [header.name.lower() for header in KEPT]
    assert names == sorted(set(names))


def test_headers_are_sorted_and_named_in_one_way() -> None:
    assert kept(("location", "/b"), ("content-TYPE", "text/html"), ("CONTENT-type", "text/html")) == (
        "Content-Type: text/html",
        "Location: /b",
    )


def test_a_header_is_one_line() -> None:
    assert kept(("Content-Type", "text/html\r\nSet-Cookie: a=b\x00")) == ("Content-Type: text/html Set-Cookie: a=b",)


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("Location", "https://CDN.org:443/x?Signature=ab&Expires=1", "https://cdn.org/x?Signature=***&Expires=***"),
        ("Location", "https://u:pw@h/x", "https://***:***@h/x"),
        ("Location", "../x y?token=ab#part", "../x%20y?token=***"),
        ("Location", "/caf\xc3\xa9", "/caf%C3%A9"),
        ("Location", "/known-secret/x", "/***/x"),
        ("Link", '<https://h/a?page=2&token=b>; rel="next", <https://h/a>; rel="last"',
                 '<https://h/a?page=2&token=***>; rel="next", <https://h/a>; rel="last"'),
        ("WWW-Authenticate", 'Basic realm="pkgs"', 'Basic realm="pkgs"'),
        ("WWW-Authenticate", 'Digest realm="a", nonce="x,y", opaque=z, qop="auth"',
                             'Digest realm="a", nonce="***", opaque="***", qop="auth"'),
        ("WWW-Authenticate", "NTLM TlRMTVNTUAAC==, Negotiate YII", "NTLM ***, Negotiate ***"),
        ("WWW-Authenticate", "Negotiate", "Negotiate"),
        ("WWW-Authenticate", 'Bearer realm="https://u:p@auth.org/token",service="r",scope="repository:a/b:pull"',
                             'Bearer realm="https://auth.org/token",service="r",scope="repository:a/b:pull"'),
        ("Content-Disposition", 'attachment; filename="known-secret.txt"', 'attachment; filename="***.txt"'),
        ("Content-Disposition", "inline; filename*=UTF-8''%e2%82.txt", "inline; filename*=UTF-8''%e2%82.txt"),
        ("X-Error-Message", "hf_" + "a1" * 15 + " may not", "*** may not"),
        ("X-Error-Message", "see https://u:p@h/", "see https://***@h/"),
    ],
)  # fmt: skip
def test_credentials_and_what_is_new_each_time_are_masked(name: str, value: str, written: str) -> None:
    assert kept((name, value), secrets=("known-secret",)) == (f"{name}: {written}",)


def test_masking_again_changes_nothing() -> None:
    headers = [("WWW-Authenticate", 'Digest nonce="a"'), ("Location", "https://u:p@h/?sig=1"), ("Link", "<//h?sig=1>")]
    once = kept(*headers)
    again = [(line.partition(": ")[0], line.partition(": ")[2]) for line in once]
    assert kept(*again) == once


@pytest.mark.parametrize("name", ["Location", "Link", "WWW-Authenticate", "Content-Type"])
@pytest.mark.parametrize("piece", ["-eyJ", "<", "nonce=", '"a://', "NTLM ", 'nonce="', "a://", " ", "?sig="])
def test_hostile_values_take_linear_time(name: str, piece: str) -> None:
    # What takes quadratic time would not end.
    assert len(kept((name, piece * (100_000 // len(piece))))) == 1


@given(st.lists(st.tuples(st.sampled_from([header.name for header in KEPT]), st.text(max_size=40))))
def test_any_values_are_kept_as_lines(headers: list[tuple[str, str]]) -> None:
    for line in kept(*headers):
        assert "\n" not in line
        assert "\r" not in line
        assert "\0" not in line
