"""What an index says of a project, and what it says by its status."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from klock.errors import FetchError
from klock.packages.credentials import Credentials
from klock.packages.index_pages import IndexPages, PageFile, _files_in_html, _files_in_json, _says_403_for_unknown
from klock.packages.indexes import DEFAULT_INDEX, Index
from klock.packages.selection import SelectedFile, SelectedPackage
from klock.packages.yanks import yanked_files
from tests.integration.index_server import IndexServer, make_wheel


def pages() -> IndexPages:
    return IndexPages(credentials=Credentials(), list_folder=lambda path: [f"{path[1:]}-1.0.tar.gz"])


@pytest.mark.parametrize("status", [401, 403, 418])
def test_an_index_that_refuses_to_answer_is_no_index_without_the_project(tmp_path: Path, status: int) -> None:
    with IndexServer(tmp_path, status=status) as index:
        for asked in (Index(url=index.url), Index(url=index.url, flat=True)):
            with pytest.raises(FetchError, match=rf"^the index page {index.url}\S* answers with status {status}$"):
                pages().offers(asked, "lib")


@pytest.mark.parametrize("status", [404, 410])
def test_an_index_that_knows_no_such_project(tmp_path: Path, status: int) -> None:
    with IndexServer(tmp_path, status=status) as index:
        assert not pages().offers(Index(url=index.url), "lib")
        with pytest.raises(FetchError, match=f"^there is no page of links {index.url}$"):
            pages().offers(Index(url=index.url, flat=True), "lib")


def test_only_pytorchs_indexes_say_403_for_what_they_do_not_have() -> None:
    hosts = ["download.pytorch.org", "pytorch.org", "pytorch.org.evil.example", "evilpytorch.org", "h"]
    assert [_says_403_for_unknown(f"https://{host}/whl/x/") for host in hosts] == [True, True, False, False, False]


def test_a_page_is_asked_for_once_and_says_which_files_are_yanked(tmp_path: Path) -> None:
    good = make_wheel(tmp_path, "lib", "1.0")
    shutil.copy(good, tmp_path / "lib-1.0-1-py3-none-any.whl")
    with IndexServer(tmp_path, yanked={"lib-1.0-1-py3-none-any.whl": "bad"}) as index:
        asked, here = pages(), Index(url=index.url)
        assert [(f.name, f.yanked) for f in asked.files(here, "lib") or ()] == [
            ("lib-1.0-1-py3-none-any.whl", "bad"),
            ("lib-1.0-py3-none-any.whl", None),
        ]
        assert asked.offers(here, "lib")
        chosen = SelectedPackage(
            name="lib",
            version="1.0",
            source=SelectedFile(name="lib-1.0-1-py3-none-any.whl", url="", size=None, sha256=None),
            has_others=True,
        )
        assert yanked_files([chosen], {"lib": here}, asked) == {"lib": {"lib-1.0-1-py3-none-any.whl"}}
        assert yanked_files([chosen], {"lib": Index(url=DEFAULT_INDEX)}, asked) == {}
        assert index.requests == ["/simple/lib/"]


def test_a_page_of_links_or_a_folder_may_hold_any_projects() -> None:
    assert pages().offers(Index(url="file:///lib", flat=True), "lib")
    assert not pages().offers(Index(url="file:///other", flat=True), "lib")


def test_html_and_json_say_the_same() -> None:
    digest = "a" * 64
    html = (
        '<base href="https://files.example/x/"><a href="a-1.whl">1</a>'
        f'<a href="../a-2.whl#sha256={digest}" data-yanked>2</a><a data-yanked="why &lt;" href="/a-3.whl">3</a>'
    )
    json = (
        '{"files": [{"filename": "a-1.whl", "url": "https://files.example/x/a-1.whl"},'
        f'{{"filename": "a-2.whl", "url": "/a-2.whl", "yanked": true, "hashes": {{"sha256": "{digest}"}}}},'
        '{"filename": "a-3.whl", "url": "/a-3.whl", "yanked": "why <"}]}'
    )
    wanted = [
        PageFile(name="a-1.whl", url="https://files.example/x/a-1.whl"),
        PageFile(name="a-2.whl", url="https://files.example/a-2.whl", yanked="", sha256=digest),
        PageFile(name="a-3.whl", url="https://files.example/a-3.whl", yanked="why <"),
    ]
    assert list(_files_in_html(html, "https://index.example/simple/a/")) == wanted
    assert list(_files_in_json(json, "https://files.example/simple/a/")) == wanted
