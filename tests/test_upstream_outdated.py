"""What is newer than what is locked: of an index, of a registry's tags, as a table."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from klock.asking import Asker
from klock.bases.newest import newest_tag
from klock.debian.apt_in_environment import AptInEnvironment
from klock.fetching.mirrors import Mirrors
from klock.image.builder import Image
from klock.inventory.reasons import Lines
from klock.lockfile.model import (
    ImageLock,
    InstallFolders,
    Interpreter,
    LockedPackage,
    Lockfile,
    OciLock,
    PipLock,
    TargetLock,
    WheelArtifact,
)
from klock.packages.index_pages import PageFile
from klock.packages.newest import newest_version
from klock.packages.question import Question, World
from klock.steps.kind import UNKNOWN_LAYER
from klock.steps.newer import Newer
from klock.steps.parts import Sort
from klock.steps.pip import newer
from klock.targets import Target
from klock.upstream.outdated import Outdated, Outlook, look_for_newer
from klock.workshop.protocol import Completed, Network
from tests.integration.index_server import IndexServer, make_wheel
from tests.memory_workshop import memory_context
from tests.test_asking import server
from tests.test_dockerfile import BASE
from tests.test_upstream_moved import Served, blob, image

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
            base=replace(BASE, reference="scratch"),
            interpreter=PYTHON,
            steps=(step,),
            packages=tuple(packages),
        )
        whole = Lockfile(image=ImageLock(name="image"), normalisation=1, targets=(lock,))
        context = replace(memory_context(tmp_path), index_url=index.url.rstrip("/"))
        asker = Asker(context.store, seconds=600)
        wanted = Image().from_docker("python:3.12").pip_install(words)
        found = look_for_newer(whole, wanted, Lines(steps=["kimage.py:3"]), context, asker)
    assert not found.notes
    versions = {each.newer.name: (each.newer.locked, each.newer.admitted, each.newer.newest) for each in found.outdated}
    assert versions == {"a": ("1.0", "1.5", "2.0"), "b": ("1.0", "1.9", "2.0")}
    assert found.outdated[0].where == "step 1 pip_install a<2, c, d (kimage.py:3)"
    assert found.summary == "2 of 4 parts have a newer version"
    asked_in_part = replace(found, outdated=(), notes=("cannot reach the index",))
    assert asked_in_part.summary == "none of 4 parts have a newer version, as far as upstream could be asked"


def test_uv_waits_no_longer_than_there_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network it would try again for eleven seconds."""
    asked: list[Question] = []

    def resolve(question: Question, _: World) -> dict[str, str]:
        asked.append(question)
        return {}

    monkeypatch.setattr(newer, "admitted_versions", resolve)
    monkeypatch.setattr(Asker, "left", 2.5)
    lock = TargetLock(
        target=Target.parse("linux/amd64"),
        base=BASE,
        interpreter=PYTHON,
        packages=(),
        steps=(PipLock(requirements=("a",), packages=(), layer=UNKNOWN_LAYER),),
    )
    whole = Lockfile(image=ImageLock(name="image"), normalisation=1, targets=(lock,))
    context = memory_context(tmp_path)
    wanted = Image().from_docker("python:3.12").pip_install(["a"])
    look_for_newer(whole, wanted, Lines(steps=["kimage.py:3"]), context, Asker(context.store, seconds=60))
    (request,) = asked[0].requests
    told = {name: value for name, value in request.environment.items() if name.startswith("UV_HTTP")}
    assert told == {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "3"}


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
    "a date is not a version of this kind": ("12", ["20240101", "13"], "13"),
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


def test_a_base_has_another_image_and_a_newer_tag(tmp_path: Path) -> None:
    (old, old_config), (new, _) = image("2026-10-02T00:00:00Z"), image("2026-11-28T00:00:00Z")
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    locked, path = blob(old, "manifest.v1+json"), "/v2/team/python"
    page = {"Link": f'<{path}/tags/list?n=1000&last=x>; rel="next"'}
    answers: dict[str, list[Served]] = {
        f"{path}/manifests/3.12-slim": [(200, kind, new)],
        f"{path}/manifests/{locked.digest}": [(200, kind, old)],
        f"{path}/blobs/{blob(old_config).digest}": [(200, {}, old_config)],
        f"{path}/tags/list?n=1000": [(200, page, b'{"tags": ["3.12-slim", "3.13-slim", "latest"]}')],
        f"{path}/tags/list?n=1000&last=x": [(200, {}, b'{"tags": ["3.14-slim", "3.15-rc-slim", 7]}')],
    }
    with server({name: list(each) for name, each in answers.items()}) as (url, _):
        reference = f"{url.removeprefix('http://')}/team/python:3.12-slim"
        base = OciLock(reference=reference, index_digest=None, manifest=locked, config=blob(old_config), layers=())
        target = TargetLock(target=Target(), base=base, interpreter=None, steps=(), packages=())
        whole = Lockfile(image=ImageLock(), normalisation=1, targets=(target,))
        context = memory_context(tmp_path)
        asker = Asker(context.store, seconds=600)
        lines = Lines(base="kimage.py:3")
        found = look_for_newer(whole, Image().from_docker(reference), lines, context, asker)
    assert found.notes == ()
    (each,) = found.outdated
    assert (each.newer.locked, each.newer.newest) == (locked.digest, "3.14-slim")
    assert each.newer.admitted == blob(new, "manifest.v1+json").digest
    assert each.where == f"base {reference} (kimage.py:3)"


POLICY = """\
vim:
  Installed: (none)
  Candidate: 2:9.0.1378-2+deb12u2
  Version table:
     2:9.1.0-1 100
        100 http://deb.debian.org/debian bookworm-backports/main amd64 Packages
     2:9.0.1378-2+deb12u2 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
libc6:
  Installed: 2.36-9
  Candidate: 2.36-9+deb12u10
  Version table:
     2.36-9+deb12u10 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
 *** 2.36-9 100
        100 /var/lib/dpkg/status
gone:
  Installed: (none)
  Candidate: (none)
  Version table:
"""


class Policy:
    """A workspace whose apt answers so, and the way to its sources."""

    def read(self, path: str) -> bytes:
        return b"apt-get"

    def run(self, command: Any, *, on_output: Any = None) -> Any:
        if callable(command):  # as `Passes` does
            return command(Network.NONE), SimpleNamespace(refused=())
        assert "apt-cache" in command.argv[2]
        assert command.argv[4:] == ("vim", "libc6", "gone")
        on_output(POLICY.encode())
        return Completed(status=0, output=b"")


def test_what_the_environments_own_apt_would_take(tmp_path: Path) -> None:
    apt = AptInEnvironment(
        workspace=cast("Any", Policy()),
        environment={},
        store=memory_context(tmp_path).store,
        mirrors=Mirrors(),
        where="",
        passes=cast("Any", Policy()),
    )
    assert apt.policy(["vim", "libc6", "gone"]) == {
        "vim": ("2:9.0.1378-2+deb12u2", "2:9.1.0-1"),
        "libc6": ("2.36-9+deb12u10", "2.36-9+deb12u10"),
    }
