"""The verbs that only look: which lockfiles `klock diff` compares, and what it says when there is none."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import klock
from klock.errors import KlockError
from klock.lockfile import write
from klock.lockfile.model import ImageLock
from tests.test_lockfile import SMALL


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@b.test", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository below whose root is a project: its lockfile was committed twice and then changed."""
    root = tmp_path_factory.mktemp("repository")
    folder = root / "of project"
    folder.mkdir()
    git(root, "init")
    for number in (1, 2, 3):
        write(replace(SMALL, image=ImageLock(name="python312", python_path=f"/{number}")), folder / "kimage.lock")
        if number < 3:
            git(root, "add", "-A")
            git(root, "commit", "-m", str(number))
    write(SMALL, folder / "other.lock")
    return folder


SIDES = {
    "the last commit and now": ((), ["update python-path /2 -> /3"]),
    "a revision and now": (("HEAD~1",), ["update python-path /1 -> /3"]),
    "two revisions": (("HEAD~1", "main"), ["update python-path /1 -> /2"]),
    "a revision and a file": (("HEAD", "other.lock"), ["remove python-path /2"]),
    "two files": (("other.lock", "kimage.lock"), ["add python-path /3"]),
}


@pytest.mark.parametrize(("sides", "changes"), SIDES.values(), ids=SIDES)
def test_a_lockfile_is_a_file_or_a_revision(
    project: Path, sides: tuple[str, ...], changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    found = klock.diff(*sides, lockfile=project / "kimage.lock")
    assert list(map(str, found.changes)) == changes


def test_without_an_earlier_commit_it_is_said_what_there_is_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KlockError, match=r"there is no kimage\.lock in "):
        klock.diff(lockfile=tmp_path / "kimage.lock")
    write(SMALL, tmp_path / "kimage.lock")
    with pytest.raises(KlockError, match=r"there is no kimage\.lock of an earlier commit to compare with: ") as caught:
        klock.diff(lockfile=tmp_path / "kimage.lock")
    assert caught.value.hint is not None and "klock diff --env" in caught.value.hint
    git(tmp_path, "init")
    text = (tmp_path / "kimage.lock").read_text()
    (tmp_path / "kimage.lock").write_text(f"<<<<<<< ours\n{text}=======\n>>>>>>> theirs\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "conflict")
    (tmp_path / "kimage.lock").write_text(text)
    with pytest.raises(KlockError, match=r"HEAD:\./kimage\.lock has merge conflicts in it") as caught:
        klock.diff(lockfile=tmp_path / "kimage.lock")
    assert caught.value.hint == "look at it: git show HEAD:./kimage.lock"


@pytest.mark.parametrize("name", ["nothing", "--help", "HEAD:", "HEAD~9"])
def test_what_is_neither_is_an_error_that_says_what_would_be(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(KlockError, match="revision"):
        klock.diff(name, lockfile=project / "kimage.lock")
