"""Steps taken back in the container's root: whole ones, and those that a kill cut short."""

from __future__ import annotations

from klock.errors import EngineError
from klock.layers.manifest import Kind
from klock.places.here.contents import Here
from klock.places.here.converging.journal import Journal
from klock.places.here.state import Doing, Done
from klock.places.here.tree import Tree
from klock.places.here.undo import difference_of, lost, take_back
from klock.progress import Progress

__all__ = ["restore", "settle_cut_short", "take_back_step"]


def take_back_step(done: Done, journal: Journal, here: Here, progress: Progress) -> None:
    """Takes back the last step; one that cannot be taken back is left, with a warning."""
    if done.undo is None:
        progress.warn(f"{done.text}: cannot be taken back; its changes stay")
        journal.leave(done)
        return
    progress.begin(f"take back {done.text}")
    before, added = journal.folder.read_undo(done.undo)
    journal.begin_taking_back()
    take_back(before, added, journal.folder.undo_folder(done.undo) / "kept")
    now = here.root.scan(journal.tree)
    folders = {path for path, seen in now.items() if seen.entry.kind is Kind.FOLDER}
    journal.took_back(now, left=({*journal.state.left, *added} & folders) - set(before))
    progress.done("done")


def settle_cut_short(doing: Doing, journal: Journal, here: Here, *, now: Tree, goes_on: bool, force: bool) -> Tree:
    """Takes back a step that a kill cut short; returns the root from which the plan starts.

    One that cannot be taken back is done again if it is the next one (`goes_on`). Raises EngineError when it is another
    one, unless that is forced; nothing is written down for it here.
    """
    before = journal.tree
    if doing.undo is not None:
        restore(doing, journal, before=before, now=now)
        journal.abandon()
        return here.root.scan(before)
    if goes_on:
        return before
    if not force:
        raise EngineError(
            f"an earlier sync stopped during {doing.text}, which is not the lockfile's next step",
            hint="start a new container, or run the locked steps anyway: klock sync --here --force",
        )
    return now


def restore(doing: Doing, journal: Journal, *, before: Tree, now: Tree) -> None:
    """Brings back what a step that was begun has changed so far. Raises EngineError when that was not kept."""
    assert doing.undo is not None
    kept = journal.folder.undo_folder(doing.undo) / "kept"
    was, added = difference_of(journal.folder.read_own(doing.undo), before, now)
    if missing := lost(was, kept):
        raise EngineError(
            f"an earlier sync stopped during {doing.text}, and klock has no copy of what it replaced: /{missing[0]}",
            hint="start a new container",
        )
    take_back(was, added, kept)
