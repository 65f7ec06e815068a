"""What a build backend answers is somebody else's: read within bounds, from ordinary files, and never a URL to ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from klock.errors import StepFailed
from klock.packages.build_system import BuildSystem
from klock.packages.builds import BuildRoom, Folder
from klock.packages.uv import WORK
from klock.store import Store
from klock.workshop.protocol import Command, Completed, Workspace


class Environment:
    """Stands for one in which a backend runs, which does `act` in its work folder."""

    def __init__(self, act: Callable[[Path], object]) -> None:
        self._act = act

    def run(self, command: Command) -> Completed:
        (work,) = (mount.source for mount in command.mounts if mount.target == WORK)
        self._act(work)
        return Completed(status=0, output=b"")


def room(tmp_path: Path, act: Callable[[Path], object]) -> BuildRoom:
    work = tmp_path / "work"
    work.mkdir()
    return BuildRoom(
        workspace=cast(Workspace, Environment(act)),
        store=Store(tmp_path / "store"),
        python="/usr/bin/python3",
        variables={},
        source=Folder(path="/srv/x"),
        system=BuildSystem(),
        isolated=True,
        work=work,
    )


def saying(answer: Any) -> Callable[[Path], object]:
    return lambda work: (work / "result.json").write_text(json.dumps(answer))


def test_requirements_are_names(tmp_path: Path) -> None:
    assert room(tmp_path, saying(["wheel", "cython>=3 ; python_version > '3'"])).extra_requirements() == (
        "wheel",
        "cython>=3 ; python_version > '3'",
    )


@pytest.mark.parametrize(
    "answer", ["x @ https://h/told-abc.zip", "git+https://h/told-abc", "x@file:///etc", {"a": 1}, [1]]
)
def test_other_requirements_are_refused(answer: Any, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"the build backend setuptools\.build_meta:__legacy__ "):
        room(tmp_path, saying([answer] if isinstance(answer, str) else answer)).extra_requirements()


def leave(what: str, work: Path, hosts: Path) -> None:
    answer = work / "result.json"
    match what:
        case "a link to a file of the host":
            answer.symlink_to(hosts / "file")
        case "no JSON":
            answer.write_text("{")
        case "JSON that is too deep":
            answer.write_text("[" * 10_000)
        case "a name that leads out":
            answer.write_text('"../../host/file.whl"')
        case "a wheel that is not there":
            answer.write_text('"x-1-py3-none-any.whl"')
        case "a wheel that is a link":
            answer.write_text('"x-1-py3-none-any.whl"')
            (work / "out/x-1-py3-none-any.whl").symlink_to(hosts / "file.whl")
        case "a folder of wheels that is a link":
            answer.write_text('"file.whl"')
            (work / "out").rmdir()
            (work / "out").symlink_to(hosts)


LEFT = (
    "nothing",
    "a link to a file of the host",
    "no JSON",
    "JSON that is too deep",
    "a name that leads out",
    "a wheel that is not there",
    "a wheel that is a link",
    "a folder of wheels that is a link",
)


@pytest.mark.parametrize("what", LEFT)
@pytest.mark.parametrize("ask", [BuildRoom.build, BuildRoom.metadata], ids=["the wheel", "the metadata"])
def test_what_a_backend_leaves_is_no_file_of_the_host(
    what: str, ask: Callable[[BuildRoom], object], tmp_path: Path
) -> None:
    hosts = tmp_path / "host"
    hosts.mkdir()
    for name in ("file", "file.whl"):
        (hosts / name).write_text('"secret"')
    one = room(tmp_path, lambda work: leave(what, work, hosts))
    with pytest.raises(StepFailed) as caught:
        ask(one)
    assert "secret" not in caught.value.message
    assert list((tmp_path / "store").rglob("blobs/sha256/*/*")) == []
