"""Which paths of a container's root are a step's own: where they really are, whatever leads to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.files.placed import UNFINISHED
from klock.places.here.converging.owning import paths_of_writes
from klock.places.here.tree import Tree
from klock.steps.kind import Writes


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A symlink to the folder `real` beside it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    return tmp_path / "link"


def exact_paths(path: str) -> frozenset[str]:
    return paths_of_writes(Writes(paths=[path]), Tree({})).exact


def test_a_path_below_a_symlink_is_where_that_leads(link: Path) -> None:
    assert exact_paths(f"{link}/file") == {f"{link.parent}/real/file".strip("/")}


def test_a_symlink_at_the_end_of_a_path_is_replaced_itself(link: Path) -> None:
    assert exact_paths(str(link)) == {str(link).strip("/")}


@pytest.mark.parametrize("is_whole", [True, False], ids=["its own", "its tools'"])
def test_a_folder_is_the_one_that_a_symlink_leads_to(is_whole: bool, link: Path) -> None:
    folder = [str(link)]
    writes = Writes(paths=[], whole=folder) if is_whole else Writes(paths=[], roots=folder)
    paths = paths_of_writes(writes, Tree({}))
    assert paths.may_have(f"{link.parent}/real/file".strip("/"))
    assert not paths.may_have(f"{link.parent}/other/file".strip("/"))


def test_what_a_kill_left_unfinished_is_the_step_s() -> None:
    """Else a folder would stay for it."""
    paths = paths_of_writes(Writes(paths=["/opt/app/main.py"]), Tree({}))
    assert paths.has(f"opt/app/{UNFINISHED}0a1b2c")
    assert not paths.has(f"opt/app/lib/{UNFINISHED}0a1b2c") and not paths.has("opt/app/mine")
