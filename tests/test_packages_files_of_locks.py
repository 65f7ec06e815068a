"""A lock without an index means its own files: the one that fits the environment best."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from klock.errors import ResolutionError
from klock.packages.files_of_locks import at_its_file, version_of_url
from klock.packages.request import RequirementOptions, ScopedRequirement

TAGS = ("cp311-cp311-manylinux_2_17_x86_64", "cp311-abi3-linux_x86_64", "py3-none-any")
FITTING = {
    "the best tag": (
        ["a-1-py3-none-any.whl", "a-1-cp311-abi3-linux_x86_64.whl", "a-1.tar.gz"],
        "a-1-cp311-abi3-linux_x86_64.whl",
    ),
    "one of several tags": (
        ["a-1-py2.py3-none-any.whl", "a-1-cp311-cp311-manylinux1_x86_64.manylinux_2_17_x86_64.whl"],
        "a-1-cp311-cp311-manylinux1_x86_64.manylinux_2_17_x86_64.whl",
    ),
    "the last build": (
        ["a-1-9-py3-none-any.whl", "a-1-10-py3-none-any.whl", "a-1-py3-none-any.whl"],
        "a-1-10-py3-none-any.whl",
    ),
    "a source where no wheel fits": (["a-1-cp39-cp39-win32.whl", "a-1.zip"], "a-1.zip"),
    "a local version": (["a-1%2Bcpu-py3-none-any.whl"], "a-1%2Bcpu-py3-none-any.whl"),
}


def chosen(*names: str, no_binary: tuple[str, ...] = (), text: str = "a==1") -> str:
    scoped = ScopedRequirement(
        text=text,
        origin="pylock.toml: packages[0]",
        options=RequirementOptions(no_binary=no_binary),
        files=tuple(f"https://h/x/{name}" for name in names),
    )
    return at_its_file(scoped, Requirement(text), TAGS).text


@pytest.mark.parametrize("case", FITTING)
def test_the_file_that_fits(case: str) -> None:
    names, wanted = FITTING[case]
    assert chosen(*names) == f"a @ https://h/x/{wanted}"
    assert chosen(*names[::-1]) == f"a @ https://h/x/{wanted}"


@pytest.mark.parametrize("names", [(":all:",), ("a",)])
def test_a_source_that_is_asked_for(names: tuple[str, ...]) -> None:
    assert chosen("a-1-py3-none-any.whl", "a-1.tar.gz", no_binary=names) == "a @ https://h/x/a-1.tar.gz"


def test_the_marker_stays() -> None:
    text = chosen("a-1-py3-none-any.whl", text="a==1; os_name == 'posix'")
    assert Requirement(text).marker == Requirement("a; os_name == 'posix'").marker


def test_none_that_fits() -> None:
    with pytest.raises(ResolutionError) as caught:
        chosen("a-1-cp39-cp39-win32.whl")
    assert caught.value.message == (
        "pylock.toml: packages[0]: no file of a==1 fits the environment's Python: it has wheels for cp39 only, not for "
        "cp311"
    )


@pytest.mark.parametrize(
    ("url", "version"),
    [("https://h/a-1.0%2Bcpu-py3-none-any.whl", "1.0+cpu"), ("https://h/a-2.tar.gz?x#y", "2"), ("https://h/a", None)],
)
def test_the_version_of_a_url(url: str, version: str | None) -> None:
    assert version_of_url(url) == version
