"""Credentials for indexes: where they are found, whom they are sent to, and that they are never shown."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import FetchError
from klock.packages.credentials import Credentials, bare_text, without_credentials


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://u:p@h.example/simple", "https://h.example/simple"),
        ("https://token@h.example:8443/simple/?a=b#c", "https://h.example:8443/simple/?a=b#c"),
        ("https://h.example/a@b", "https://h.example/a@b"),
        ("git+ssh://git@h.example/x.git@main", "git+ssh://git@h.example/x.git@main"),
        ("git+ssh://git:p@h.example/x.git", "git+ssh://h.example/x.git"),
        ("git+https://u:p@h.example/x@v1", "git+https://h.example/x@v1"),
        ("file:///wheels", "file:///wheels"),
        ("/wheels", "/wheels"),
    ],
)
def test_a_url_without_credentials(url: str, bare: str) -> None:
    assert without_credentials(url) == bare


@pytest.mark.parametrize(
    ("what", "environment"),
    [
        ("an index URL of uv", {"UV_EXTRA_INDEX_URL": "https://a.example/s https://u:p%2Fw@h.example/simple"}),
        ("a named index of uv", {"UV_INDEX": "corp=https://u:p%2Fw@h.example/simple"}),
        ("an index URL of pip", {"PIP_INDEX_URL": "https://u:p%2Fw@h.example/simple"}),
        (
            "uv's variables for a named index",
            {
                "UV_INDEX": "my-corp=https://h.example/simple",
                "UV_INDEX_MY_CORP_USERNAME": "u",
                "UV_INDEX_MY_CORP_PASSWORD": "p/w",
            },
        ),
    ],
)
def test_credentials_are_found_in(what: str, environment: dict[str, str]) -> None:
    known = Credentials.collect(environments=[{}, environment])
    assert known.find("https://h.example/files/a.whl") == ("u", "p/w"), what
    assert known.find("https://a.example/s") is None
    assert known.find("http://h.example/simple") is None, "another scheme is another origin"
    assert known.find("https://h.example:8443/") is None, "another port is another origin"


def test_credentials_of_other_variables_are_not_taken() -> None:
    assert Credentials.collect(environments=[{"DATABASE": "https://u:p@h.example/"}]).find("https://h.example/") is None


def test_netrc_answers_for_hosts_nothing_else_names(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine h.example login me password secret\nmachine g.example login other password else\n")
    known = Credentials.collect(urls=["https://u:p@h.example/simple"], netrc=netrc)
    assert known.find("https://h.example/") == ("u", "p")
    assert known.find("https://g.example/") == ("other", "else")
    assert known.find("https://none.example/") is None


def test_a_broken_or_missing_netrc_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "netrc"
    broken.write_text("machine\nlogin login login")
    for path in (broken, tmp_path / "missing"):
        assert Credentials(netrc=path).find("https://h.example/") is None


def test_the_header_is_http_basic() -> None:
    known = Credentials.collect(urls=["https://u:p%40ss@h.example/simple"])
    assert known.headers("https://h.example/x") == {"Authorization": "Basic " + base64.b64encode(b"u:p@ss").decode()}
    assert known.headers("https://other.example/x") == {}


@pytest.mark.parametrize(
    "word",
    ["--index-url=https://u:p@h.example/simple", "git+https://u:p@h.example/x@v1", "x@https://u:p@h.example/x.whl"],
)
def test_credentials_are_found_in_the_words_of_a_requirement(word: str) -> None:
    known = Credentials.collect(urls=[word])
    assert known.find("https://h.example/") == ("u", "p")
    assert known.named == {("h.example", 443)}


def test_a_base_names_no_server_on_this_machine() -> None:
    """A base is somebody else's: its variables lead uv to an index, and no package's code to what listens here."""
    base = {
        "UV_INDEX": "http://127.0.0.1:2375/simple http://localhost:80/ http://name.example/ http://10.1.2.3:8080/",
        "PIP_INDEX_URL": "http://127.0.0.1:9200/",
    }
    own = {**base, "PIP_INDEX_URL": "http://127.0.0.1:3141/"}
    known = Credentials.collect(environments=[own], base=base)
    assert known.named == {("10.1.2.3", 8080), ("127.0.0.1", 3141)}


def test_netrc_is_for_https_and_for_the_servers_that_the_user_names(tmp_path: Path) -> None:
    """A package's own code chooses what is fetched, and must not choose who is told a password."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine h.example login me password secret\ndefault login any password all\n")
    known = Credentials.collect(urls=["http://h.example:8080/simple", "http://d.example/simple"], netrc=netrc)
    assert known.find("http://h.example:8080/x") == ("me", "secret")
    assert known.find("https://h.example/x") == ("me", "secret")
    assert known.find("http://h.example/x") is None
    assert known.find("http://d.example/x") == ("any", "all")
    assert known.find("https://other.example/x") is None


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("x @ https://u:p@h.example/x.whl ; a == 'b'", "x @ https://h.example/x.whl ; a == 'b'"),
        ("x @ git+https://t@h.example/x@v1", "x @ git+https://h.example/x@v1"),
        ("x @ git+ssh://git@h.example/x", "x @ git+ssh://git@h.example/x"),
        ("https://h.example/a@b", "https://h.example/a@b"),
        ("https://u:p@w@h.example/", "https://h.example/"),
    ],
)
def test_a_text_without_credentials(text: str, bare: str) -> None:
    assert bare_text(text) == bare


@given(st.text(min_size=1, max_size=20), st.text(min_size=4, max_size=40))
def test_a_masked_text_has_no_password_in_any_spelling(user: str, password: str) -> None:
    url = f"https://{quote(user, safe='')}:{quote(password, safe='')}@h.example/simple"
    known = Credentials.collect(urls=[url])
    shown = known.mask(f"cannot fetch {url}: {password!s} was refused")
    for secret in (password, quote(password, safe="")):
        assert secret not in shown.replace("cannot fetch https://***@h.example/simple: ", "").replace(
            " was refused", ""
        )
    assert "https://***@h.example/simple" in shown or password in "cannot fetch https://***@h.example/simple"


def test_urls_nobody_registered_are_masked_too() -> None:
    assert Credentials().mask("see https://tok:en@h.example/x now") == "see https://***@h.example/x now"


FAKE_KEYRING = """\
#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in
  "get https://h.example/simple me") echo by-url;;
  "get g.example:8443 --mode creds") printf 'you\\nby-host\\n';;
  "get old.example --mode creds") echo "keyring: error: unrecognized arguments: --mode creds" >&2; exit 2;;
  *) exit 1;;
esac
"""


@pytest.fixture
def keyring(tmp_path: Path) -> dict[str, str]:
    """The variables of a user who has one."""
    program = tmp_path / "bin" / "keyring"
    program.parent.mkdir()
    program.write_text(FAKE_KEYRING)
    program.chmod(0o755)
    path = f"relative:{program.parent}:/usr/bin:/bin"
    return {"UV_KEYRING_PROVIDER": "subprocess", "PATH": path, "LOG": str(tmp_path / "log")}


def asked(keyring: dict[str, str]) -> list[str]:
    log = Path(keyring["LOG"])
    return log.read_text().splitlines() if log.exists() else []


def test_the_keyring_is_asked_once_for_what_the_user_names(keyring: dict[str, str]) -> None:
    urls = ["https://me@h.example/simple", "https://g.example:8443/simple", "https://pypi.org/simple"]
    for _ in range(2):
        known = Credentials.collect(urls=urls, host=keyring)
        assert known.find("https://h.example/files/x.whl") == ("me", "by-url")
        assert known.find("https://g.example:8443/x") == ("you", "by-host")
        assert known.find("https://pypi.org/simple/x") is None
        assert known.find("https://a-package-says.example/x") is None
        assert "by-url" not in known.mask("it is by-url")
    assert asked(keyring) == [
        "get https://h.example/simple me",
        "get https://g.example:8443/simple --mode creds",
        "get g.example:8443 --mode creds",
    ]
    assert Credentials.collect(urls=urls, host=keyring).passwords == ("by-url", "by-host")


def test_the_keyring_is_not_asked_for_what_is_known_or_what_a_base_names(
    keyring: dict[str, str], tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine h.example login me password secret\n")
    base = {"UV_INDEX_URL": "https://base.example/simple"}
    known = Credentials.collect(
        environments=[base],
        base=base,
        urls=["https://h.example/simple", "https://u:p@g.example"],
        host=keyring,
        netrc=netrc,
    )
    assert known.find("https://h.example/") == ("me", "secret")
    assert known.find("https://g.example/") == ("u", "p")
    assert known.find("https://base.example/simple") is None
    off = Credentials.collect(urls=["https://me@h.example/simple"], host={**keyring, "UV_KEYRING_PROVIDER": "disabled"})
    assert off.find("https://h.example/") == ("me", "")
    assert asked(keyring) == []


def test_a_keyring_that_cannot_be_asked(keyring: dict[str, str], tmp_path: Path) -> None:
    url = ["https://old.example/simple"]
    with pytest.raises(FetchError, match=r"bin/keyring cannot be asked without a user name$"):
        Credentials.collect(urls=url, host=keyring).find(url[0])
    nowhere = {**keyring, "PATH": f"bin:{tmp_path}/none"}
    with pytest.raises(FetchError, match=r"^UV_KEYRING_PROVIDER is set, and there is no program keyring on PATH$"):
        Credentials.collect(urls=url, host=nowhere).find(url[0])
    with pytest.raises(FetchError, match=r"^UV_KEYRING_PROVIDER is 'native', which klock cannot ask$"):
        Credentials.collect(urls=url, host={**keyring, "UV_KEYRING_PROVIDER": "native"})
