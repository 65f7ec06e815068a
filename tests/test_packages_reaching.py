"""What uv may ask for follows from the question; an answer that does not is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klock.errors import ResolutionError
from klock.packages.indexes import Index, IndexSettings
from klock.packages.reaching import check_answer, reach_of
from klock.packages.request import PipRequest, ScopedRequirement
from klock.packages.roots import read_roots
from klock.packages.selection import SelectedFile, SelectedFolder, SelectedPackage, SelectedRepository
from klock.packages.uv_project import UvProject
from klock.recorder import Links

ONE, OTHER = "1" * 64, "2" * 64
FILE = "https://files.test/torch-2.1-py3-none-any.whl"
PROJECT = UvProject(
    dependencies=(
        "torch>=2",
        "x @ https://direct.test/x-1.0.zip#sha256=1",
        "r[extra] @ git+https://git.test/r.git@main",
    ),
    direct=("git+https://git.test/nameless@v1#egg=n", "https://direct.test/y-1.0-py3-none-any.whl"),
    constraints=("z @ https://direct.test/z-1.0.zip",),
    settings=IndexSettings(
        default=Index(url="https://default.test/simple"),
        extras=(Index(url="https://extra.test/simple"),),
        find_links=(Index(url="https://links.test/all.html", flat=True), Index(url="file:///srv/wheels", flat=True)),
    ),
    pins={"torch": Index(url="https://pinned.test/simple")},
    preferences={},
    fallbacks=(Index(url="https://scoped.test/simple"),),
)


def test_reach_is_what_the_question_names() -> None:
    reach = reach_of(PROJECT, {"UV_CONSTRAINT": "/a.txt https://files.test/c.txt", "UV_TORCH_BACKEND": "cpu"}, Links())
    assert reach.indexes == {
        *(f"https://{name}.test/simple" for name in ("default", "extra", "pinned", "scoped")),
        "https://download.pytorch.org/whl/",
    }
    assert reach.pages == {"https://links.test/all.html", "file:///srv/wheels"}
    assert reach.repositories == {"https://git.test/r.git", "https://git.test/nameless"}
    assert reach.files == {
        "https://direct.test/x-1.0.zip#sha256=1",
        "https://direct.test/y-1.0-py3-none-any.whl",
        "https://direct.test/z-1.0.zip",
        "https://files.test/c.txt",
    }


def file(url: str, sha256: str | None = ONE) -> SelectedFile:
    return SelectedFile(name=url.rpartition("/")[2], url=url, size=1, sha256=sha256)


TORCH = SelectedPackage(name="torch", version="2.1", source=file(FILE))
DIRECT = SelectedPackage(name="x", version="1.0", source=file("https://direct.test/x-1.0.zip"), direct=True)
COMMIT = SelectedRepository(
    type="git", url="https://git.test/r", commit="1" * 40, requested_revision="main", subdirectory=None
)
REPOSITORY = SelectedPackage(name="r", version=None, source=COMMIT, direct=True)
OFFERED = {
    "what the question names": (TORCH, DIRECT, REPOSITORY),
    "a file and a folder of the environment": (
        replace(TORCH, source=file("file:///srv/wheels/torch-2.1-py3-none-any.whl")),
        replace(DIRECT, source=SelectedFolder(path="/srv/x")),
    ),
}
NOT_OFFERED = {
    "a file that no page links to": replace(TORCH, source=file("https://evil.test/torch-2.1-py3-none-any.whl")),
    "one with another hash": replace(TORCH, source=file(FILE, OTHER)),
    "one without its hash": replace(TORCH, source=file(FILE, None)),
    "a URL that nobody named": replace(DIRECT, source=file("https://direct.test/other.zip")),
    "a linked file as a direct URL": replace(TORCH, direct=True),
    "another repository": replace(REPOSITORY, source=replace(COMMIT, url="https://git.test/evil")),
}  # fmt: skip


def check(*selected: SelectedPackage, overridden: bool = False) -> None:
    links = Links()
    links.add(FILE, ONE)
    requests = [PipRequest(requirements=(ScopedRequirement(text="torch>=2", origin="kimage.py:3"),))]
    check_answer(selected, read_roots(requests), reach_of(PROJECT, {}, links), overridden=overridden)


@pytest.mark.parametrize("selected", OFFERED.values(), ids=OFFERED)
def test_an_answer_that_is_offered_stands(selected: tuple[SelectedPackage, ...]) -> None:
    check(*selected)


@pytest.mark.parametrize("package", NOT_OFFERED.values(), ids=NOT_OFFERED)
def test_an_answer_that_nobody_offers_is_refused(package: SelectedPackage) -> None:
    with pytest.raises(ResolutionError, match=f"for {package.name}, which is neither named in the image nor offered"):
        check(package)


def test_an_answer_keeps_to_what_the_image_requires() -> None:
    older = replace(TORCH, version="1.0")
    with pytest.raises(
        ResolutionError, match=r"kimage\.py:3: uv answers with torch 1\.0, which torch>=2 does not allow"
    ):
        check(older)
    check(older, overridden=True)
