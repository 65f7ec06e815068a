from __future__ import annotations

from pathlib import Path

import pytest

from klock.forks import Tally
from klock.workshop.scratch import remove_trees


@pytest.mark.parametrize("tally", [None, Tally("paths")], ids=["unseen", "counted"])
def test_a_removal_does_not_follow_symlinks(tmp_path: Path, tally: Tally | None) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    (theirs / "in").mkdir(parents=True)
    (theirs / "in/file").touch()
    (ours / "in").mkdir(parents=True)
    (ours / "in/link").symlink_to(theirs)
    (tmp_path / "link").symlink_to(theirs)
    remove_trees([ours, tmp_path / "link", tmp_path / "none"], tally)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "in", "theirs"]
    if tally is not None:
        assert tally() == "2 of 2 paths"
