"""What may be asked for while packages' code runs: what the image names, and what that links to, each exactly."""

from __future__ import annotations

import json

import pytest

from klock.recorder.exchange import Request
from klock.recorder.reach import Guard, Links, Reach, Role

INDEX = "https://index.test/simple/"
SHA256 = "ab" * 32
OTHER = "cd" * 32
HTML = f"""<!DOCTYPE html>
<a data-requires-python=">=3.8" href="https://files.test/a-1.0.tar.gz#sha256={SHA256}">a</a>
<A class=x HREF='../../files/a%201.whl'>a</A> <a href=b-1.0.zip>b</a>
<a href="http://[bad">no URL</a> <a href="?x&amp;y">q</a>
"""
JSON = json.dumps(
    {
        "files": [
            {"url": "https://files.test/a-1.0.tar.gz", "hashes": {"sha256": SHA256}},
            {"url": "../../files/a%201.whl", "hashes": {}},
            {"url": "b-1.0.zip", "hashes": None},
            {"url": "http://[bad"},
            {"url": 5},
            "no file",
            {"url": "?x&y"},
        ]
    }
)
LINKED = (
    "https://files.test/a-1.0.tar.gz",
    "https://files.test:443/a%2D1.0.tar.gz",
    "https://files.test/a-1.0.tar.gz.metadata",
    "https://index.test/files/a%201.whl",
    "https://index.test/simple/a/b-1.0.zip",
    "https://index.test/simple/a/?x&y",
)


def guard() -> Guard:
    return Guard(
        Reach(
            indexes=frozenset({"https://user:word@index.test/simple"}),
            pages=frozenset({"https://links.test/all.html"}),
            files=frozenset({"https://direct.test/x-1.0.zip#sha256=1"}),
            repositories=frozenset({"https://git.test/team/r.git", "https://github.com/team/r"}),
        )
    )


def get(url: str, method: str = "GET") -> Request:
    return Request(method=method, url=url)


@pytest.mark.parametrize(("media_type", "page"), [("text/html", HTML), ("application/vnd.pypi.simple.v1+json", JSON)])
def test_a_page_links_to_files(media_type: str, page: str) -> None:
    one = guard()
    assert [one.role_of(get(url)) for url in LINKED] == [None, None, None, None, Role.PAGE, None]
    assert not one.has_host("files.test")
    one.learn_page(f"{INDEX}a/", media_type, page)
    assert {one.role_of(get(url)) for url in LINKED} == {Role.FILE}
    assert one.has_host("files.test")
    later = Guard(Reach(links=one.links))
    assert {later.role_of(get(url)) for url in LINKED} == {Role.FILE}
    assert later.role_of(get(f"{INDEX}a/")) is None
    has = one.links.has_file
    assert has("https://files.test/a-1.0.tar.gz", SHA256)
    assert not has("https://files.test/a-1.0.tar.gz", OTHER)
    assert not has("https://files.test/a-1.0.tar.gz", None)
    assert has("https://index.test/simple/a/b-1.0.zip", OTHER)  # the page has no hash of it
    assert not has("https://files.test/other.zip", SHA256)


ALLOWED = {
    f"{INDEX}a/": Role.PAGE,
    f"{INDEX}Some.Name_2": Role.PAGE,
    INDEX: Role.PAGE,
    "https://links.test/all.html": Role.PAGE,
    "https://direct.test/x-1.0.zip": Role.FILE,
    "https://git.test/team/r/info/refs?service=git-upload-pack": Role.GIT,
    "https://git.test/team/r.git/HEAD": Role.GIT,
    "https://git.test/team/r.git/objects/ab/cdef01": Role.GIT,
    "https://git.test/team/submodule/info/refs?service=git-upload-pack": Role.GIT,
    "https://api.github.com/repos/team/r/commits/main": Role.FILE,
    "https://raw.githubusercontent.com/team/r/abc/pyproject.toml": Role.FILE,
}
OUT_OF_REACH = (
    f"{INDEX}a/?data",
    f"{INDEX}a/b/c/d/",
    f"{INDEX}../data/",
    f"{INDEX}a%2F..%2Fdata/",
    "http://index.test/simple/a/",
    "https://index.test:8443/simple/a/",
    "https://index.test/simpler/a/",
    "https://index.test.evil.test/simple/a/",
    "https://index.test/data",
    "https://evil.test/data",
    "https://links.test/all.html?data",
    "https://links.test/data",
    "https://direct.test/x-1.0.zip?data",
    "https://git.test/team/r.git/data",
    "https://git.test/team/r.git/info/refs?service=git-receive-pack",
    "https://api.github.com/repos/evil/r/commits/main",
    "https://raw.githubusercontent.com/team/r2/abc/pyproject.toml",
    "ftp://index.test/simple/a/",
    "no URL",
)


def test_what_the_image_names_may_be_asked_for_and_nothing_beside_it() -> None:
    one = guard()
    assert {url: one.role_of(get(url)) for url in ALLOWED} == ALLOWED
    assert {url for url in OUT_OF_REACH if one.role_of(get(url)) is not None} == set()
    assert one.has_host("index.test") and one.has_host("git.test")
    assert not one.has_host("evil.test")


def test_nothing_is_written_but_what_git_needs_to_read() -> None:
    one = guard()
    written = [*ALLOWED, "https://git.test/team/r.git/git-upload-pack", "https://git.test/team/r.git/git-receive-pack"]
    assert [url for url in written if one.role_of(get(url, "POST"))] == ["https://git.test/team/r.git/git-upload-pack"]
    large = "https://git.test/team/r.git/info/lfs/objects/batch"
    assert one.role_of(get(large, "POST")) is Role.LFS
    batch = {"objects": [{"actions": {"download": {"href": "https://large.test/x"}}}, {"actions": 1}, {}, 2]}
    one.learn_page(large, "application/vnd.git-lfs+json", json.dumps(batch))
    assert one.role_of(get("https://large.test/x")) is Role.FILE


def test_a_redirect_leads_to_one_url() -> None:
    one = guard()
    page, file, repository = f"{INDEX}a/", "https://direct.test/x-1.0.zip", "https://git.test/team/r"
    one.learn_redirect(get(page), Role.PAGE, "https://public.test/simple/a/")
    one.learn_redirect(get(file), Role.FILE, "/moved?signed=1")
    one.learn_redirect(
        get(f"{repository}/info/refs?service=git-upload-pack"),
        Role.GIT,
        "https://new.test/r.git/info/refs?service=git-upload-pack",
    )
    for hostile in ("", "http://[bad", "file:///etc/passwd", "//"):
        one.learn_redirect(get(page), Role.PAGE, hostile)
    assert one.role_of(get("https://public.test/simple/a/")) is Role.PAGE
    assert one.role_of(get("https://public.test/simple/data/")) is None
    assert one.role_of(get("https://direct.test/moved?signed=1")) is Role.FILE
    assert one.role_of(get("https://direct.test/moved?signed=2")) is None
    assert one.role_of(get("https://new.test/r.git/git-upload-pack", "POST")) is Role.GIT
    assert one.role_of(get("file:///etc/passwd")) is None


def test_a_page_may_be_anything() -> None:
    links = Links()
    one = Guard(Reach(links=links))
    for text in ("", "[" * 100_000, "null", "[]", '{"files": 1}', "<a href=", "<base href=http://[>", "\x00" * 100):
        for media_type in ("text/html", "application/json"):
            one.learn_page(INDEX, media_type, text)
    assert len(links.known) == 0
