"""Trees that were changed in the store, where several processes find it out at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from klock.store import Store
from klock.workshop.trees import Trees
from klock.workshop.whole import WholeTrees

KEY = "sha256:" + "1" * 64


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_what_another_process_made_anew_stays(
    is_made_anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = Trees(Store(tmp_path))
    tree = trees.tree(KEY)
    (tree / "root").mkdir(parents=True)

    def look(_: Callable[[], bool]) -> bool:
        """Takes its time."""
        if is_made_anew:
            trees.put_aside(tree)
            (tree / "root").mkdir(parents=True)
        return False

    monkeypatch.setattr("klock.workshop.whole.in_namespace", look)
    assert not WholeTrees(trees, str(tmp_path / "area")).has_tree(KEY)
    assert tree.exists() == is_made_anew
