"""Shell steps, before they run: what they must not call, and the proxies that they find."""

from __future__ import annotations

import pytest

from klock.errors import ImageError
from klock.recorder.doors import Doors, where_of, wheres_in
from klock.steps.shell.proxies import proxies_in
from klock.steps.shell.rights import refuse_sudo

CALLS_SUDO = (
    "sudo apt-get update",
    "cd /srv && sudo make install",
    "x=1 sudo -E env",
    "if true; then sudo ls; fi",
    "(sudo ls)",
    "echo a\nsudo ls",
    "time sudo ls",
    "a | /usr/bin/sudo tee /etc/x",
    "doas ls",
)
CALLS_NONE = ("apt-get install -y sudo", "echo 'sudo is here'", "command -v sudo", "usermod -aG sudo joe", "sudoedit x")


@pytest.mark.parametrize("command", CALLS_SUDO)
def test_sudo_of_a_user_other_than_root_is_refused(command: str) -> None:
    with pytest.raises(ImageError, match="it runs as jovyan") as raised:
        refuse_sudo(command, user="jovyan:users")
    assert raised.value.hint == 'call .user("root") before it, and .user(...) after it'
    for user in ("", "root", "0", "0:0", "root:root"):
        refuse_sudo(command, user=user)


@pytest.mark.parametrize("command", CALLS_NONE)
def test_a_word_that_is_sudo_is_no_call(command: str) -> None:
    refuse_sudo(command, user="jovyan")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("proxy=http://proxy.example:3128", {("proxy.example", 3128)}),
        ("proxy=proxy.example:3128/", {("proxy.example", 3128)}),
        ("proxy=http://me:word@Proxy.example:3128/", {("proxy.example", 3128)}),
        ("proxy=http://10.1.2.3:3128", {("10.1.2.3", 3128)}),
        ("proxy=http://proxy.example", {("proxy.example", 80)}),
        ('Acquire::http::Proxy "http://proxy.example:3128/";', {("proxy.example", 3128)}),
        ('Acquire::http::Proxy::deb.example "http://proxy.example:3128/";', {("proxy.example", 3128)}),
        ("[global]\nproxy = http://proxy.example:3128\n", {("proxy.example", 3128)}),
        ("https-proxy=http://proxy.example:3128\n", {("proxy.example", 3128)}),
        ("[http]\n\tproxy = proxy.example:3128\n", {("proxy.example", 3128)}),
        ("proxy_servers:\n  http: http://proxy.example:3128\n", {("proxy.example", 3128)}),
        ("curl -x proxy.example:3128 https://a.example/", {("proxy.example", 3128)}),
        ("curl --proxy http://proxy.example:3128 https://a.example/", {("proxy.example", 3128)}),
        ("pip install --proxy=http://proxy.example:3128 x", {("proxy.example", 3128)}),
        ("git config --global http.proxy http://proxy.example:3128", {("proxy.example", 3128)}),
        ("export https_proxy='http://proxy.example:3128'", {("proxy.example", 3128)}),
        ("proxy=socks5://proxy.example:1080", set()),
        ("no_proxy=a.example", set()),
        ("proxy_pass http://backend:8080;", set()),
        ("curl https://proxy.example:3128/x", set()),
        ('Acquire::http::Proxy "DIRECT";', set()),
    ],
)
def test_proxies_are_found_where_programs_are_told_of_them(text: str, found: set[tuple[str, int]]) -> None:
    assert proxies_in([text]) == found


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://H.example/x", ("h.example", 80)),
        ("https://u:p@h.example:8443/x", ("h.example", 8443)),
        ("http://[::1]:80/", ("::1", 80)),
        ("ftp://h.example/", None),
        ("https://h.example:port/", None),
        ("file:///x", None),
    ],
)
def test_where_a_url_leads(url: str, where: tuple[str, int] | None) -> None:
    assert where_of(url) == where
    assert wheres_in([f"deb [a=b] {url} suite main\n"]) == ({where} if where else set())


def test_doors_on_this_machine_are_on_the_commands_own_loopback() -> None:
    doors = Doors(origins=frozenset({("localhost", 8080), ("10.0.0.5", 80)}), proxies=frozenset({("127.0.0.2", 3128)}))
    assert doors.loopback == (("127.0.0.1", 8080), ("127.0.0.2", 3128), ("::1", 8080))
    assert doors.ports == (80, 3128, 8080)
    assert doors.host_at("127.0.0.1", 8080) == "localhost"
    assert doors.host_at("10.0.0.5", 80) == "10.0.0.5"
    assert doors.host_at("10.0.0.5", 81) is None
    assert doors.is_origin("10.0.0.5", 80)
    assert not doors.is_origin("127.0.0.2", 3128)
