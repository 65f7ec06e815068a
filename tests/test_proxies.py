"""The variables for proxies are read as other programs read them."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest
from urllib3.exceptions import MaxRetryError, ProxyError

from klock.connections import Pools, reason_of
from klock.errors import FetchError
from klock.proxies import proxy_of
from klock.recorder.exchange import Request
from klock.recorder.redaction import Redaction
from klock.recorder.report import Notes
from klock.recorder.upstream import Unreachable, Upstream

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("HTTPS_PROXY", PROXY, PROXY),
        ("https_proxy", PROXY, PROXY),
        ("ALL_PROXY", PROXY, PROXY),
        ("HTTP_PROXY", PROXY, None),
        ("https_proxy", "proxy.example:3128", PROXY),
        ("https_proxy", "10.0.0.1:3128", "http://10.0.0.1:3128"),
        ("https_proxy", "https://proxy.example", "https://proxy.example"),
        ("https_proxy", "", None),
    ],
)
def test_which_proxy(variable: str, value: str, found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    assert proxy_of("https://registry.example/v2/") == found


@pytest.mark.parametrize("value", ["socks5://me:word@proxy.example:1080", "http://", "http://[::1", "me:word@"])
def test_a_proxy_that_klock_cannot_speak_to(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(FetchError, match=r"names for registry\.example is not an http or https URL") as caught:
        proxy_of("https://registry.example/v2/")
    assert caught.value.hint is not None and "https_proxy" in caught.value.hint
    assert "word" not in f"{caught.value.message} {caught.value.hint}"


def test_a_step_is_told_of_such_a_proxy_as_of_a_server_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error would be one of the recorder, and end the step."""

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("all_proxy", "socks5://proxy.example:1080")
    monkeypatch.setattr(Upstream, "_look_up", unknown)
    server = Upstream(notes=Notes(Redaction(secrets=(), private_urls=())))
    assert server.has_name("registry.example"), "as of a proxy that can be used, which may know it"
    with pytest.raises(Unreachable, match=r"is not an http or https URL: set https_proxy to http://HOST:PORT, or"):
        server.fetch(Request(method="GET", url="https://registry.example/", headers=(), body=b""))


@pytest.mark.parametrize(
    ("entry", "url", "is_excepted"),
    [
        ("*", "https://registry.example/", True),
        ("registry.example", "https://registry.example/", True),
        ("registry.example", "https://Registry.Example./", True),
        ("example", "https://registry.example/", True),
        (".example", "https://registry.example/", True),
        ("*.example", "https://registry.example/", True),
        ("try.example", "https://registry.example/", False),
        ("a.example, registry.example", "https://registry.example/", True),
        ("a.example registry.example", "https://registry.example/", True),
        ("registry.example:5000", "https://registry.example:5000/", True),
        ("registry.example:5000", "https://registry.example/", False),
        ("registry.example", "https://registry.example:5000/", True),
        ("10.0.0.7", "https://10.0.0.7:5000/", True),
        ("10.0.0.7:5000", "https://10.0.0.7:5000/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.0.0.0/8", "https://registry.example/", False),
        ("fd00::/8", "https://[fd00::1]:5000/", True),
        ("fd00::1", "https://[fd00::1]/", True),
        ("[fd00::1]:5000", "https://[fd00::1]:5000/", True),
        ("[fd00::1]:5000", "https://[fd00::1]:5001/", False),
        ("", "https://registry.example/", False),
        ("", "https://127.0.0.1/", True),
        ("", "https://localhost:5000/", True),
    ],
)
def test_who_is_excepted(entry: str, url: str, is_excepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.setenv("no_proxy", entry)
    assert (proxy_of(url) is None) == is_excepted


def test_a_proxy_s_password_may_have_any_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:a%40b%3Ac@proxy.example:3128")
    manager = Pools().for_url("https://registry.example/")
    assert getattr(manager, "proxy_headers", None) == {"proxy-authorization": "Basic bWU6YUBiOmM="}


def test_a_proxy_that_opens_no_tunnel_says_why() -> None:
    error = ProxyError("Unable to connect to proxy", OSError("Tunnel connection failed: 407 Login Required"))
    assert reason_of(MaxRetryError(cast("Any", None), "/", error)) == "the proxy answers 407 Login Required"
