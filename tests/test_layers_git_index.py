"""A git index without what it says of the disk: made by git itself, and read by git again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.layers.rewriting.git_index import without_stat_data

FIXED = {
    "GIT_AUTHOR_DATE": "@1 +0000",
    "GIT_COMMITTER_DATE": "@1 +0000",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "PATH": os.environ["PATH"],
}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=FIXED, capture_output=True, text=True, check=True
    )
    return done.stdout


def repository(folder: Path, version: int, object_format: str) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", f"--object-format={object_format}")
    git(folder, "config", "index.version", str(version))
    for name in ("a", "ab", "folder/a-longer-name", "folder/with space", "é"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "m")
    git(folder, "update-index", f"--index-version={version}")
    return folder


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_two_checkouts_of_one_commit_get_one_index(tmp_path: Path, version: int, object_format: str) -> None:
    one = repository(tmp_path / "one", version, object_format)
    other = repository(tmp_path / "other", version, object_format)
    before = [(folder / ".git/index").read_bytes() for folder in (one, other)]
    after = [without_stat_data(index) for index in before]
    assert before[0] != before[1]
    assert after[0] == after[1]
    (one / ".git/index").write_bytes(after[0])
    assert git(one, "status", "--porcelain") == ""
    assert git(one, "ls-files", "--stage") == git(other, "ls-files", "--stage")


@given(st.binary(max_size=200))
def test_other_bytes_are_left_alone(content: bytes) -> None:
    assert without_stat_data(content) == content


def test_a_damaged_index_is_left_alone(tmp_path: Path) -> None:
    index = (repository(tmp_path / "r", 2, "sha1") / ".git/index").read_bytes()
    for damaged in (index[:-1], index[:40], b"XXXX" + index[4:], index[:60] + b"?" + index[61:]):
        assert without_stat_data(damaged) == damaged
