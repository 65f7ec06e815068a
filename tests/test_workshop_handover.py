"""klock reads and writes no file of the host through what a program of the workshop left in a folder that both use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from klock.workshop.handover import empty_folder, hand_in, take_out
from tests.deep_folders import make_deep

MOST = 100


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    hosts = tmp_path / "host"
    hosts.mkdir()
    (hosts / "file").write_text("the host's")
    return hosts


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


def leave(work: Path, hosts: Path, what: str) -> None:
    thing = work / "thing"
    match what:
        case "a symlink":
            thing.symlink_to(hosts / "file")
        case "a symlink to a file that is not there":
            thing.symlink_to(hosts / "new")
        case "a symlink to a folder":
            thing.symlink_to(hosts)
        case "a hard link":
            thing.hardlink_to(hosts / "file")
        case "a named pipe":
            os.mkfifo(thing)
        case "a folder with things in it":
            (thing / "deep").mkdir(parents=True)
            (thing / "link").symlink_to(hosts)
        case "folders deep in one another":
            thing.mkdir()
            make_deep(thing, "d", 1500)
        case "a file":
            thing.write_text("the program's")


LEFT = (
    "nothing",
    "a symlink",
    "a symlink to a file that is not there",
    "a symlink to a folder",
    "a hard link",
    "a named pipe",
    "a folder with things in it",
    "folders deep in one another",
    "a file",
)


@pytest.mark.parametrize("what", LEFT)
def test_what_was_left_there_is_replaced_and_the_host_stays_as_it_is(work: Path, hosts: Path, what: str) -> None:
    leave(work, hosts, what)
    hand_in(work, "thing", b"klock's")
    assert take_out(work, "thing", most=MOST) == b"klock's"
    (work / "thing").unlink()
    leave(work, hosts, what)
    empty_folder(work, "thing")
    assert not (work / "thing").is_symlink()
    assert list((work / "thing").iterdir()) == []
    assert [path.name for path in hosts.iterdir()] == ["file"]
    assert (hosts / "file").read_text() == "the host's"


@pytest.mark.parametrize("what", [what for what in LEFT if what not in ("a file", "a hard link")])
def test_only_an_ordinary_file_is_read(work: Path, hosts: Path, what: str) -> None:
    leave(work, hosts, what)
    assert take_out(work, "thing", most=MOST) is None
    assert take_out(work, "thing/file", most=MOST) is None


def test_a_path_stays_within_the_folder(work: Path, hosts: Path) -> None:
    (work / "out").mkdir()
    (work / "out/file").write_bytes(b"x" * MOST)
    (work / "link").symlink_to(work / "out")
    assert take_out(work, "out/file", most=MOST) == b"x" * MOST
    assert take_out(work, "out/file", most=MOST - 1) is None
    for path in (
        "../host/file",
        "out/../../host/file",
        str(hosts / "file"),
        "",
        ".",
        "out",
        "out/",
        "link/file",
        "a\0b",
    ):
        assert take_out(work, path, most=MOST) is None, path
