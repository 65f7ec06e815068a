"""Whether a tree is as it was noted: the same answer, however it is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from klock import tree_stats
from klock.tree_stats import is_as_noted, note_stats

WAYS = {"by path": (False, 10**6), "by folder": (True, 10**6), "with a second process": (True, 3)}


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
    before = Path.cwd()
    if change is not None:
        change(tree / "root")
    assert is_as_noted(str(tree), may_move=may_move) is (change is None)
    assert Path.cwd() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("content", [b"", b"\x00", b"not marshal"])
def test_a_damaged_note_says_nothing(content: bytes, tree: Path) -> None:
    (tree / tree_stats.FILE).write_bytes(content)
    assert not is_as_noted(str(tree))
    (tree / tree_stats.FILE).unlink()
    assert not is_as_noted(str(tree), may_move=True)
