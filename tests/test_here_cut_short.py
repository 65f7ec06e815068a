"""A step in a running container that a kill cut short: what the next sync makes of it before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.errors import EngineError
from klock.places.here.contents import Here
from klock.places.here.converging.journal import Journal
from klock.places.here.converging.taking_back import settle_cut_short
from klock.places.here.root import Root
from klock.places.here.state import Doing, StateFolder
from klock.places.here.tree import Tree
from klock.store import Store
from tests.memory_workshop import MemoryWorkshop

SHELL_STEP = Doing(key="sha256:" + "1" * 64, text="step 2 run_bash make", undo=None)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(folder=StateFolder(tmp_path / "here"), root=Root(Store(tmp_path / "store")), workshop=MemoryWorkshop())


@pytest.fixture
def journal(here: Here) -> Journal:
    """Of a container in which a command was cut short."""
    journal = Journal.started(here.folder, base="sha256:" + "0" * 64, tree=Tree({}))
    journal.begin(SHELL_STEP, None)
    return journal


def test_a_command_that_is_not_the_next_step_stops_the_sync(journal: Journal, here: Here) -> None:
    with pytest.raises(EngineError, match="stopped during step 2 run_bash make, which is not the lockfile's next step"):
        settle_cut_short(SHELL_STEP, journal, here, now=Tree({}), goes_on=False, force=False)


@pytest.mark.parametrize(("goes_on", "force"), [(True, False), (False, True)], ids=["the next step", "forced"])
def test_until_the_work_begins_the_notes_are_as_the_kill_left_them(
    goes_on: bool, force: bool, journal: Journal, here: Here
) -> None:
    before = here.folder.read()
    settle_cut_short(SHELL_STEP, journal, here, now=Tree({}), goes_on=goes_on, force=force)
    assert before is not None
    assert before.doing == SHELL_STEP
    assert here.folder.read() == before
