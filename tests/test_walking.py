"""Folders that lie deeper in one another than Python's own functions go, or have longer paths than the kernel takes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from klock.errors import EngineError
from klock.layers.canonical import canonicalise, holds_changes
from klock.layers.changes import changes_in
from klock.walking import remove_tree, walk
from tests.deep_folders import make_deep

DEEP = [("d", 1500), ("x" * 200, 40), ("y" * 255, 300)]
SHAPES = ["1500 folders", "a path of 8,000 bytes", "a path of 76,800 bytes"]


@pytest.mark.parametrize(("name", "depth"), DEEP, ids=SHAPES)
def test_folders_of_any_depth_are_removed(name: str, depth: int, tmp_path: Path) -> None:
    for above in ("one", "one/two"):
        (tmp_path / above).mkdir()
        make_deep(tmp_path / above, name, depth)
    told: list[int] = []
    remove_tree(tmp_path / "one", told=told.append)
    assert list(tmp_path.iterdir()) == []
    assert sum(told) == 2 * (depth + 1) + 1
    remove_tree(tmp_path / "one")


def test_what_is_no_folder_is_removed_itself(tmp_path: Path) -> None:
    (tmp_path / "theirs/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("theirs")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/link").symlink_to("../theirs/in")
    (tmp_path / "file").touch()
    for name in ("link", "ours", "file"):
        remove_tree(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "theirs"]


def test_what_cannot_be_removed_is_an_error_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all/held/in", "all/free"):
        (tmp_path / name).mkdir(parents=True)
    remove = os.rmdir

    def rmdir(path: str, *, dir_fd: int | None = None) -> None:
        if path == "in":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        remove(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(PermissionError):
        remove_tree(tmp_path / "all")
    remove_tree(tmp_path / "all", ignore_errors=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["all", "held", "in"]


def test_a_link_that_takes_the_place_of_a_folder_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root klock removes what another user made in a container, and who may be there still."""
    for name in ("ours/folder/in", "theirs/in"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("one", "other"):
            (tmp_path / name / file).touch()
    unlink = os.unlink

    def removed_while_somebody_changes_it(path: str, *, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        monkeypatch.undo()
        (tmp_path / "ours/folder").rename(tmp_path / "moved")
        (tmp_path / "ours/folder").symlink_to("../theirs")

    monkeypatch.setattr(os, "unlink", removed_while_somebody_changes_it)
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "ours")
    assert sorted(path.name for path in (tmp_path / "theirs/in").iterdir()) == ["one", "other"]


def test_an_interrupted_removal_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str, *, dir_fd: int | None = None) -> None:
        raise KeyboardInterrupt

    make_deep(tmp_path, "d", 10)
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    monkeypatch.setattr(os, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        remove_tree(tmp_path / "d")
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before


def test_all_is_gone_through(tmp_path: Path) -> None:
    make_deep(tmp_path, "d", 1500)
    (tmp_path / "link").symlink_to("d")
    found = [(above, folders, others) for above, folders, others in walk(os.fsencode(tmp_path))]
    assert found[0][1:] == ([b"d"], [b"link"])
    assert len(found) == 1501 and found[-1][1:] == ([], [b"file"])


def test_what_a_command_nested_in_an_environment_is_seen(tmp_path: Path) -> None:
    for name in ("upper", "lower"):
        (tmp_path / name).mkdir()
        make_deep(tmp_path / name, "d", 1500)
    upper, lower = os.fsencode(tmp_path / "upper"), os.fsencode(tmp_path / "lower")
    assert holds_changes(upper, lower)
    found = changes_in(upper, lower)
    assert len(found) == 1501 and max(found, key=len) == "d/" * 1500 + "file"


def test_a_layer_that_is_too_deep_is_refused_in_words(tmp_path: Path) -> None:
    for name in ("upper", "lower"):
        (tmp_path / name).mkdir()
    make_deep(tmp_path / "upper", "d", 240)
    upper, lower = os.fsencode(tmp_path / "upper"), os.fsencode(tmp_path / "lower")
    assert len(canonicalise(upper, lower)) == 241
    make_deep(tmp_path / "upper", "e", 1500)
    with pytest.raises(EngineError, match=r"^more than 250 folders are nested in one another: /e/e/e/[e/]*\.\.\.$"):
        canonicalise(upper, lower)
