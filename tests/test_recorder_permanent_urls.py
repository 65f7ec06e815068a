"""Which answers upstream will still give when it has moved on."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.lockfile.model import LockedRequest
from klock.recorder.permanent_urls import PERMANENT_URLS, is_permanent

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "0123456789abcdef" * 4


def get(url: str) -> LockedRequest:
    return LockedRequest(method="GET", url=url, status=200, size=1, sha256=SHA256)


PERMANENT_URLS_URLS = [
    "http://snapshot.debian.org/archive/debian/20250520T000000Z/dists/bookworm/InRelease",
    "http://snapshot.debian.org/archive/debian/20250520T000000Z/pool/main/j/jq/jq_1.6-2.1_amd64.deb",
    f"https://files.pythonhosted.org/packages/ab/cd/{'e' * 60}/six-1.16.0-py2.py3-none-any.whl",
    f"https://files.pythonhosted.org/packages/ab/cd/{'e' * 60}/six-1.16.0-py2.py3-none-any.whl.metadata",
    "https://files.pythonhosted.org/packages/source/s/six/six-1.16.0.tar.gz",
    "https://download.pytorch.org/whl/cu124/torch-2.5.0%2Bcu124-cp311-cp311-linux_x86_64.whl",
    "https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz",
    "https://registry.npmjs.org/@types/node/-/node-20-beta.tgz",
    f"https://raw.githubusercontent.com/o/r/{COMMIT}/file.txt",
    f"https://github.com/o/r/archive/{COMMIT}.tar.gz",
    "https://github.com/o/r/archive/refs/tags/release7.tar.gz",
    "https://github.com/o/r/releases/download/v3/tool-linux-amd64",
    f"https://huggingface.co/gpt2/resolve/{COMMIT}/config.json",
    "https://nodejs.org/dist/v20.11.0/node-v20.11.0-linux-x64.tar.xz",
    "https://go.dev/dl/go1.21.5.linux-amd64.tar.gz",
    "https://dl.k8s.io/v1.30.0/bin/kubectl.exe",
    "https://example.org/data-2024-01-31.zip",
    f"https://h/repo.git/objects/01/{COMMIT[2:]}",
    f"https://h/repo.git/objects/pack/pack-{COMMIT}.pack",
    f"https://registry.example.org/v2/library/debian/blobs/sha256:{SHA256}",
    "https://proxy.golang.org/github.com/pkg/errors/@v/v0.9.1.mod",
    "https://repo1.maven.org/maven2/org/slf4j/slf4j-api/2.0.9/slf4j-api-2.0.9.pom",
    "https://static.crates.io/crates/serde/serde-1.0.200.crate",
]

MOVING_URLS = [
    "http://deb.debian.org/debian/pool/main/j/jq/jq_1.6-2.1_amd64.deb",
    "http://deb.debian.org/debian/pool/main/g/gcc-12/libstdc%2b%2b6_12.2.0-14_amd64.deb",
    f"http://deb.debian.org/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/{SHA256}",
    "http://deb.debian.org/debian/dists/bookworm/InRelease",
    "http://deb.debian.org/debian/dists/bookworm/main/binary-amd64/Packages.xz",
    "http://archive.ubuntu.com/ubuntu/dists/22.04/Packages.gz",
    "https://pypi.org/simple/six/",
    "https://pypi.org/pypi/six/json",
    "https://registry.npmjs.org/left-pad",
    "https://github.com/o/r/info/refs?service=git-upload-pack",
    "https://github.com/o/r/archive/refs/heads/main.zip",
    "https://raw.githubusercontent.com/o/r/main/file.txt",
    "https://huggingface.co/gpt2/resolve/main/config.json",
    "https://example.org/tool/latest/tool-1.2.tar.gz",
    "https://nodejs.org/dist/latest-v20.x/node-v20.11.0-linux-x64.tar.xz",
    "https://repo/maven/a/1.0-SNAPSHOT/a-1.0-SNAPSHOT.jar",
    "https://proxy.golang.org/github.com/pkg/errors/@v/list",
    "https://proxy.golang.org/github.com/pkg/errors/@latest",
    "https://registry.example.org/v2/library/debian/manifests/bookworm",
    "https://conda.anaconda.org/conda-forge/noarch/repodata.json.zst",
    "https://static.rust-lang.org/dist/channel-rust-stable.toml",
    "https://sh.rustup.rs/",
    "https://example.org/install.sh",
    "https://example.org/archive.tar.gz",
    "https://1.2.3.example.org/archive.tar.gz",
    f"https://h/{COMMIT[:39]}/file",
    f"https://h/{COMMIT}0/file",
    f"https://cdn/{COMMIT}/file?Signature=***",
    "https://h/***/tool-1.2.tar.gz",
]


@pytest.mark.parametrize("url", PERMANENT_URLS_URLS)
def test_a_url_with_a_version_or_a_hash_lasts(url: str) -> None:
    assert is_permanent(get(url))


@pytest.mark.parametrize("url", MOVING_URLS)
def test_other_urls_do_not(url: str) -> None:
    assert not is_permanent(get(url))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "POST"},
        {"status": 302},
        {"status": 404},
        {"private": True},
        {"turn": 1},
        {"body": SHA256},
        {"git_protocol": "version=2"},
    ],
    ids=str,
)
def test_only_the_plain_answer_to_a_plain_request_lasts(change: dict[str, object]) -> None:
    request = get(PERMANENT_URLS_URLS[0])
    assert is_permanent(request)
    assert not is_permanent(dataclasses.replace(request, **change))  # type: ignore[arg-type]


def test_the_size_of_a_lasting_file_lasts_and_so_does_one_behind_a_login() -> None:
    request = get(PERMANENT_URLS_URLS[0])
    assert is_permanent(dataclasses.replace(request, method="HEAD", sha256=None))
    assert is_permanent(dataclasses.replace(request, authorized=True, accept="*/*"))


def test_every_rule_is_needed() -> None:
    from urllib.parse import unquote, urlsplit

    paths = [urlsplit(url).netloc + unquote(urlsplit(url).path) for url in PERMANENT_URLS_URLS]
    for rule in PERMANENT_URLS:
        assert any(rule.pattern.fullmatch(path) for path in paths), rule.reason
        assert rule.reason


@pytest.mark.parametrize("piece", ["a/", "-1", "1.", "/pool/", "0", "v1.2/", "/-/", "a-1/", "@v/", "1/1-1", "by-hash/"])
def test_hostile_urls_end(piece: str) -> None:
    assert not is_permanent(get("https://h/" + piece * (16_000 // len(piece)) + "\n"))


@given(st.text(max_size=60))
def test_any_url_is_judged(url: str) -> None:
    is_permanent(get(f"https://h/{url}"))
