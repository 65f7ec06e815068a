"""What a container says of its files, and what it would say of the locked ones."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.fleet.expected import Expected, command_to_read
from klock.fleet.reading import Unreadable, read_container
from klock.layers.scan import manifest_of_tree
from tests.test_lockfile import SMALL
from tests.test_upstream_outdated import PYTHON

LOCK = replace(SMALL.targets[0], interpreter=replace(PYTHON, path=sys.executable))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for folder in ("srv/app/__pycache__", "etc", "tmp", "root/.cache/pip"):
        (tree / folder).mkdir(parents=True)
    (tree / "srv/app/main.py").write_text("print(1)\n")
    (tree / "srv/odd \x1b\nname").write_text("x")
    (tree / "srv/link").symlink_to("app")
    (tree / os.fsdecode(b"srv/\xff")).touch()
    os.mkfifo(tree / "srv/pipe")
    return tree


def expected(tree: Path) -> Expected:
    files = manifest_of_tree(os.fsencode(tree))
    return Expected(files=files, layers=(files,))


def read(tree: Path, digest: str | None = None) -> subprocess.CompletedProcess[str]:
    command = command_to_read(LOCK, digest=digest, root=str(tree))
    assert command is not None
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_says_what_klock_says_of_the_same_tree(tree: Path) -> None:
    done = read(tree)
    assert done.returncode == 0, done.stderr
    assert read_container([done.stdout]).files == expected(tree).files


def test_what_no_layer_has_and_every_container_has_is_not_read(tree: Path) -> None:
    locked = expected(tree)
    for path in ("etc/resolv.conf", "tmp/x", "root/.cache/pip/x", "srv/app/__pycache__/main.cpython-311.pyc"):
        (tree / path).touch()
    assert read(tree, locked.digest).returncode == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "srv/app/main.py").write_text("print(2)\n"),
        lambda tree: (tree / "srv/app/main.py").chmod(0o755),
        lambda tree: (tree / "srv/more").touch(),
        lambda tree: (tree / "srv/link").unlink(),
        lambda tree: (tree / "srv/\udcff").unlink(),
    ],
)
def test_any_change_of_a_file_is_another_digest(tree: Path, change: object) -> None:
    locked = expected(tree)
    assert read(tree, locked.digest).stdout == "klock: the files are the locked ones\n"
    assert callable(change)
    change(tree)
    done = read(tree, locked.digest)
    assert (done.returncode, done.stdout) == (1, "")
    assert "klock fleet check" in done.stderr


def test_without_a_python_nothing_can_read() -> None:
    assert command_to_read(replace(LOCK, interpreter=None)) is None


@given(st.lists(st.text(), max_size=5))
def test_any_other_text_is_refused(pieces: list[str]) -> None:
    with pytest.raises(Unreadable):
        read_container(pieces)


@given(st.data())
def test_an_answer_that_is_cut_anywhere_is_refused(data: st.DataObject) -> None:
    whole = '["mounts", []]\n["a", "dir", 493, 0, 0, 0, null]\n["b", "fifo", 0, 0, 0, 0, null]\n["end", 2]\n'
    assert read_container(list(whole)).files.keys() == {"a", "b"}
    with pytest.raises(Unreadable):
        read_container([whole[: data.draw(st.integers(0, len(whole) - 1))]])
