"""Whether a tree is as it was noted: the same answer, however it is looked at."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klock import tree_stats
from klock.forks import in_fork
from klock.layers.scan import manifest_of_tree
from klock.tree_stats import is_as_noted, note_stats

WAYS = {
    "in a program's process": (False, 10**6),
    "in klock's own": (True, 10**6),
    "in a program's and a second one": (False, 3),
    "in klock's own and a second one": (True, 3),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("a", "a/deep", "b", "c"):
        (tmp_path / "tree/root" / folder).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            (tmp_path / "tree/root" / folder / f"{number}").write_text(folder)
    note_stats(str(tmp_path / "tree"))
    return tmp_path / "tree"


CHANGES: dict[str, Callable[[Path], object]] = {
    "the content of one file": lambda root: (root / "a/deep/1").write_text("x"),
    "a mode": lambda root: (root / "b/2").chmod(0o600),
    "one more file": lambda root: (root / "c/new").touch(),
    "one file less": lambda root: (root / "c/0").unlink(),
    "a time that is set back": lambda root: os.utime(root / "a/0", ns=(0, 0)),
    "the root itself": lambda root: root.chmod(0o700),
}


@pytest.mark.parametrize(("may_move", "much"), WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("change", [None, *CHANGES.values()], ids=["nothing", *CHANGES])
def test_a_change_anywhere_is_seen(
    change: Callable[[Path], object] | None,
    may_move: bool,
    much: int,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tree_stats, "_MUCH", much)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    fork, children = os.fork, list[int]()

    def noted_fork() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted_fork)
    before = Path.cwd()
    if change is not None:
        change(tree / "root")
    assert is_as_noted(str(tree), may_move=may_move) is (change is None)
    assert Path.cwd() == before
    assert not children or much == 3
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


def _write_in_place(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"M")


def _put_a_copy_in_its_place(path: Path) -> None:
    """The same bytes, mode and times: what a stat can show of it is the inode."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def _behind_its_back(path: Path) -> None:
    """The size and the time of what was written are put back."""
    status = path.stat()
    _write_in_place(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _gone(path: Path) -> Path:
    path.unlink()
    return path


HAPPENINGS: dict[str, Callable[[Path, Path], object]] = {
    "written in place": lambda path, _: _write_in_place(path),
    "written, with size and time put back": lambda path, _: _behind_its_back(path),
    "replaced by a copy": lambda path, _: _put_a_copy_in_its_place(path),
    "grown": lambda path, _: path.write_bytes(path.read_bytes() + b"!"),
    "emptied": lambda path, _: path.write_bytes(b""),
    "removed": lambda path, _: path.unlink(),
    "removed and made again": lambda path, _: _gone(path).write_bytes(b"made again"),
    "renamed": lambda path, other: path.rename(other.with_name("renamed")),
    "moved over another": lambda path, other: path.replace(other),
    "made executable": lambda path, _: path.chmod(0o755),
    "made a symlink": lambda path, other: _gone(path).symlink_to(other),
    "made a folder": lambda path, _: _gone(path).mkdir(),
    "linked once more": lambda path, other: other.with_name("again").hardlink_to(path),
    "an attribute": lambda path, _: os.setxattr(path, "user.mine", b"x"),
    "read": lambda path, _: path.read_bytes(),
    "nothing": lambda path, _: None,
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    happenings=st.lists(
        st.tuples(st.sampled_from(sorted(HAPPENINGS)), st.integers(0, 11), st.integers(0, 11)), max_size=3
    ),
    way=st.sampled_from(sorted(WAYS)),
)
def test_whatever_reading_every_file_finds_its_stats_have_shown(
    happenings: list[tuple[str, int, int]], way: str, tmp_path: Path
) -> None:
    may_move, much = WAYS[way]
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory(dir=tmp_path) as made:
        patched.setattr(tree_stats, "_MUCH", much)
        patched.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        root = Path(made) / "root"
        paths = [root / folder / str(number) for folder in ("a", "a/deep", "b", "c") for number in range(3)]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{path}")
        note_stats(made)
        before = manifest_of_tree(os.fsencode(root))
        for what, one, other in happenings:
            with contextlib.suppress(OSError):  # an earlier one left nothing there
                HAPPENINGS[what](paths[one], paths[other])
        as_noted = is_as_noted(made, may_move=may_move)
        if manifest_of_tree(os.fsencode(root)) != before:
            assert not as_noted
        if all(what in ("read", "nothing") for what, _, _ in happenings):
            assert as_noted


@pytest.mark.parametrize("much", [3, 10**6], ids=["in two processes", "in one"])
def test_the_current_folder_of_a_program_that_uses_klock_stays(
    much: int, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler of its may import a module from there at any moment."""
    monkeypatch.setattr(tree_stats, "_MUCH", much)
    program, chdir = os.getpid(), os.chdir

    def in_a_child_only(path: str) -> None:
        assert os.getpid() != program
        chdir(path)

    monkeypatch.setattr(os, "chdir", in_a_child_only)
    assert is_as_noted(str(tree))
    (tree / "root/b/1").write_text("x")
    assert not is_as_noted(str(tree))


@pytest.mark.parametrize("content", [b"", b"\x00", b"not marshal"])
def test_a_damaged_note_says_nothing(content: bytes, tree: Path) -> None:
    (tree / tree_stats.FILE).write_bytes(content)
    assert not is_as_noted(str(tree))
    (tree / tree_stats.FILE).unlink()
    assert not is_as_noted(str(tree), may_move=True)


def test_the_current_folder_may_be_somebody_elses() -> None:
    """As after `sudo -u`: nobody could come back to it."""
    with tempfile.TemporaryDirectory() as folder:
        seen, hidden = Path(folder, "seen"), Path(folder, "hidden")
        (seen / "root").mkdir(parents=True)
        (seen / "root/file").touch()
        hidden.mkdir()
        for each in (Path(folder), seen, seen / "root"):
            each.chmod(0o755)
        note_stats(str(seen))

        def looked() -> list[bool]:
            os.chdir(hidden)
            hidden.chmod(0)
            if os.geteuid() == 0:
                os.setuid(65534)
            before = [is_as_noted(str(seen), may_move=moves) for moves in (False, True)]
            with pytest.raises(PermissionError):
                os.open(".", os.O_PATH)
            return before

        assert in_fork(looked) == [True, True]
        hidden.chmod(0o700)
