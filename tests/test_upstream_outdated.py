"""What is newer than what is locked: of an index, of a registry's tags, as a table."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from klock.asking import Asker
from klock.bases.newest import newest_tag
from klock.image.builder import Image
from klock.inventory.reasons import Lines
from klock.lockfile.model import (
    DebianLock,
    ImageLock,
    InstallFolders,
    Interpreter,
    LockedPackage,
    Lockfile,
    PipLock,
    TargetLock,
    WheelArtifact,
)
from klock.packages.index_pages import PageFile
from klock.packages.newest import newest_version
from klock.steps.kind import UNKNOWN_LAYER
from klock.steps.newer import Newer
from klock.steps.parts import Sort
from klock.targets import Target
from klock.upstream.outdated import Outdated, Outlook, look_for_newer
from tests.integration.index_server import IndexServer, make_wheel
from tests.memory_workshop import memory_context

PYTHON = Interpreter(
    path="/usr/bin/python3",
    version="3.11.2",
    implementation="cpython",
    libc="glibc 2.36",
    sha256="0" * 64,
    folders=InstallFolders(
        purelib="/usr/local/lib/python3.11/dist-packages",
        platlib="/usr/local/lib/python3.11/dist-packages",
        scripts="/usr/local/bin",
        data="/usr/local",
        headers="/usr/local/include/python3.11",
    ),
)


def test_the_newest_that_is_admitted_and_the_newest_of_all(tmp_path: Path) -> None:
    """`b` is held by what `a` requires, `a` by the image, and one version of `c` is yanked."""
    files = tmp_path / "files"
    files.mkdir()
    for name, version, requires in (
        ("a", "1.0", ["b<2"]),
        ("a", "1.5", ["b<2"]),
        ("a", "2.0", []),
        ("b", "1.0", []),
        ("b", "1.9", []),
        ("b", "2.0", []),
        ("c", "1.0", []),
        ("c", "1.1", []),
        ("d", "1.0", []),
    ):
        make_wheel(files, name, version, requires=requires)
    with IndexServer(files, yanked={"c-1.1-py3-none-any.whl": "bad"}) as index:
        packages = []
        for name in "abcd":
            path = files / f"{name}-1.0-py3-none-any.whl"
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            wheel = WheelArtifact(name=path.name, url="", size=path.stat().st_size, sha256=digest)
            packages.append(LockedPackage(name=name, version="1.0", index=index.url.rstrip("/"), artifact=wheel))
        words = ["a<2", "c", "d"]
        step = PipLock(requirements=tuple(words), packages=tuple(p.pin for p in packages), layer=UNKNOWN_LAYER)
        lock = TargetLock(
            target=Target.parse("linux/amd64"),
            base=DebianLock(suite="bookworm", packages=(), debs=(), tree="sha256:" + "1" * 64),
            interpreter=PYTHON,
            steps=(step,),
            packages=tuple(packages),
        )
        whole = Lockfile(image=ImageLock(name="image"), normalisation=1, targets=(lock,))
        context = replace(memory_context(tmp_path), index_url=index.url.rstrip("/"))
        asker = Asker(context.store, seconds=600)
        image = Image().from_docker("python:3.12").pip_install(words)
        found = look_for_newer(whole, image, Lines(steps=["kimage.py:3"]), context, asker)
    assert not found.notes
    versions = {each.newer.name: (each.newer.locked, each.newer.admitted, each.newer.newest) for each in found.outdated}
    assert versions == {"a": ("1.0", "1.5", "2.0"), "b": ("1.0", "1.9", "2.0")}
    assert found.outdated[0].where == "step 1 pip_install a<2, c, d (kimage.py:3)"
    assert found.summary == "2 of 4 parts have a newer version"


FILES = {
    "the newest": (["x-1.0-py3-none-any.whl", "x-1.10.tar.gz", "x-1.9.zip"], "1.0", "1.10"),
    "no pre-release": (["x-1.0-py3-none-any.whl", "x-2.0rc1-py3-none-any.whl"], "1.0", "1.0"),
    "a pre-release beside one": (
        ["x-1.0b1-py3-none-any.whl", "x-2.0rc1-py3-none-any.whl", "x-1.0.tar.gz"],
        "1.0b1",
        "2.0rc1",
    ),
    "where there is nothing else": (["x-2.0rc1-py3-none-any.whl"], "1.0", "2.0rc1"),
    "nothing of another project or kind": (["y-3.0.tar.gz", "x-9.exe", "x-none.whl"], "1.0", None),
}


@pytest.mark.parametrize(("names", "locked", "newest"), FILES.values(), ids=FILES)
def test_the_newest_version_of_a_page(names: list[str], locked: str, newest: str | None) -> None:
    files = [PageFile(name=name, url="") for name in names]
    assert newest_version("x", files, locked=locked) == newest
    yanked = [PageFile(name="x-9.9.tar.gz", url="", yanked="")]
    assert newest_version("x", [*files, *yanked], locked=locked) == newest


TAGS = {
    "more numbers are another kind": ("3.12-slim", ["3.13-slim", "3.14.1-slim", "4-slim"], "3.13-slim"),
    "other words are another kind": ("3.12-slim", ["3.14-slim-bookworm", "3.15-rc-slim", "3.14"], "3.12-slim"),
    "by number": ("1.9", ["1.10", "1.2"], "1.10"),
    "a v before it": ("v1.9", ["v1.10", "2.0"], "v1.10"),
    "a date is no version of this kind": ("12", ["20240101", "13"], "13"),
    "dates among themselves": ("20240101", ["20240201", "13"], "20240201"),
    "no number": ("latest", ["1", "2"], None),
}


@pytest.mark.parametrize(("tag", "tags", "newest"), TAGS.values(), ids=TAGS)
def test_a_newer_tag_is_written_like_the_one_that_is_there(tag: str, tags: list[str], newest: str | None) -> None:
    assert newest_tag(tag, tags) == newest


def test_the_table() -> None:
    base = Newer(sort=Sort.BASE, name="x:1", locked="sha256:" + "1" * 64, admitted="sha256:" + "2" * 64, newest="2")
    package = Newer(sort=Sort.PACKAGE, name="numpy", locked="1.0", admitted=None, newest="10.0")
    outlook = Outlook(
        outdated=(
            Outdated(newer=base, where="base x:1 (kimage.py:3)"),
            Outdated(newer=package, where="step 1 pip_install numpy", targets=("linux/arm64/cpu",)),
        ),
        looked_at=9,
    )
    assert list(outlook.lines()) == [
        "Base   locked               admitted             newest",
        "  x:1  sha256:111111111111  sha256:222222222222  2       base x:1 (kimage.py:3)",
        "Python packages  locked  admitted  newest",
        "  numpy          1.0     ?         10.0    step 1 pip_install numpy (linux/arm64/cpu only)",
    ]
