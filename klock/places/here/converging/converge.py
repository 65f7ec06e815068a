"""Carrying out the plan: steps back and forth in the container's root, each written down before it begins."""

from __future__ import annotations

from dataclasses import replace

from klock.errors import EngineError
from klock.places.here.adopted import could_change_what_runs
from klock.places.here.contents import Here
from klock.places.here.converging.base import compare_base
from klock.places.here.converging.doing import do_step
from klock.places.here.converging.foreign import remove_foreign
from klock.places.here.converging.journal import Journal
from klock.places.here.converging.plan import InPlacePlan, as_synced, drift_of_steps, layer_of, layer_steps, make_plan
from klock.places.here.converging.refusing import refuse_what_cannot_run
from klock.places.here.converging.taking_back import settle_cut_short, take_back_step
from klock.places.here.state import FORCED
from klock.places.here.tree import Tree
from klock.replay.goal import Goal
from klock.steps.context import Context
from klock.words import counted, listed

__all__ = ["converge"]


def converge(goal: Goal, *, here: Here, context: Context, force: bool = False) -> InPlacePlan:
    """Makes the container's root be what `goal` says, and keeps its record.

    With `force` what cannot be taken back stays, the locked steps are done over it, and layers that come out other than
    locked are told and kept. Raises EngineError when the container cannot become the locked one, StepFailed when a step
    does not make its locked layer.
    """
    with here.folder.lock():
        return _converge(goal, here, replace(context, over_locked_base=False), force=force)


def _converge(goal: Goal, here: Here, context: Context, *, force: bool) -> InPlacePlan:
    state = here.folder.read()
    if (nothing := as_synced(goal, here, state)) is not None:
        return nothing
    journal = None if state is None else Journal(here.folder, state)
    tree = _first_look(here, context) if journal is None else here.root.scan(journal.tree)
    goes_on = False
    if journal is None:
        compare_base(goal.lock)
    elif journal.state.doing is not None:
        following = [key for _, key, _ in layer_steps(goal)][len(journal.state.steps) :][:1]
        goes_on = following == [journal.state.doing.key]
        tree = settle_cut_short(journal.state.doing, journal, here, now=tree, goes_on=goes_on, force=force)
    plan = make_plan(goal, here, None if journal is None else journal.state, tree, force=force)
    if plan.changes_nothing:
        return plan
    if plan.stuck and not force:
        raise EngineError(
            "this container cannot become the locked environment:" + listed(plan.stuck),
            hint="start a new container, or run the locked steps anyway: klock sync --here --force",
        )
    refuse_what_cannot_run(goal.lock, plan, now=tree, here=here, context=context)
    if journal is None:
        journal = Journal.started(here.folder, base=goal.lock.base.id, tree=tree)
    elif journal.state.doing is None:
        _tell_of_others_work(journal, here, tree, context)
        journal.note_others_work(tree)
    elif not goes_on:
        journal.abandon_in_place(tree)
    for done in plan.back:
        take_back_step(done, journal, here, context.progress)
    remove_foreign(list(plan.foreign), journal, here, context.progress)
    for position in plan.run:
        key = goal.cache_keys[position]
        assert key is not None
        do_step(context.at(goal.lock, position), key, journal, here, context, force=force)
    tree = here.root.scan(journal.tree)
    record = goal.record if _is_locked(goal, journal, here, tree) else {**goal.record, "fingerprint": FORCED}
    journal.finish(tree, record)
    return plan


def _first_look(here: Here, context: Context) -> Tree:
    """All that the container holds, every file read."""
    context.progress.begin("read the container's files")
    tree = here.root.scan()
    context.progress.done(counted(len(tree), "path"))
    return tree


def _tell_of_others_work(journal: Journal, here: Here, now: Tree, context: Context) -> None:
    """Warns of what programs wrote since the last sync and could change what runs: it stays, and is no drift later."""
    made, _ = here.folder.made_by(journal.state.steps)
    before = journal.tree
    new = [path for path, seen in now.items() if path not in made and before.entry(path) != seen.entry]
    if found := could_change_what_runs(new):
        context.progress.warn(
            f"no step made these files. They stay, and `klock check --env` accepts them from now on:{listed(found)}"
        )


def _is_locked(goal: Goal, journal: Journal, here: Here, tree: Tree) -> bool:
    """Whether the root is what is locked, and not only what `force` could do."""
    state = journal.state
    return (
        not state.forced
        and state.base == goal.lock.base.id
        and journal.layers() == [layer_of(step) for _, _, step in layer_steps(goal)]
        and not drift_of_steps(state, here, tree)
    )
