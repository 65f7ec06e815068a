"""What has to be done in a running container, as data: what `klock sync --here --dry-run` prints."""

from __future__ import annotations

import os

from klock.digests import Digest
from klock.layers.manifest import Kind
from klock.lockfile.model import StepLock, TargetLock
from klock.lockfile.model import layer_of as layer_lock_of
from klock.places.here.contents import Here
from klock.places.here.converging.foreign import Foreign, foreign_distributions
from klock.places.here.state import Done, State
from klock.places.here.tree import Tree, is_untouched, on_disk
from klock.replay.goal import Goal
from klock.replay.plan import Plan, Remove, RunStep, Stuck, TakeBack
from klock.steps import describe
from klock.values import dataclass
from klock.words import first_of

__all__ = ["InPlacePlan", "as_synced", "drift_of_steps", "layer_of", "layer_steps", "make_plan", "plan_in_place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlacePlan:
    """`kept` is how many done steps stay, `back` are those to take back (the last one first), `run` the positions of
    the steps to do. `foreign` is what is removed before them. `stuck` are lines that say why the container cannot
    become the locked one."""

    kept: int
    back: tuple[Done, ...]
    run: tuple[int, ...]
    stuck: tuple[str, ...]
    is_recorded: bool
    foreign: tuple[Foreign, ...] = ()

    @property
    def changes_nothing(self) -> bool:
        return self.is_recorded and not self.back and not self.run and not self.stuck

    def as_plan(self, lock: TargetLock) -> Plan:
        """The same in the terms of every place."""
        return Plan(
            actions=(
                *(Stuck(reason=line) for line in self.stuck),
                *(TakeBack(text=done.text) for done in self.back),
                *(Remove(text=foreign.text) for foreign in self.foreign),
                *(RunStep(position=n, text=describe(lock.steps[n])) for n in self.run),
            )
        )


def plan_in_place(goal: Goal, here: Here) -> InPlacePlan:
    """What `converge` would do. Changes nothing."""
    state = here.folder.read()
    if (nothing := as_synced(goal, here, state)) is not None:
        return nothing
    tree = here.folder.read_tree(state.tree) if state else None
    return make_plan(goal, here, state, here.root.scan(tree) if tree else None)


def layer_steps(goal: Goal) -> list[tuple[int, Digest, StepLock]]:
    """The steps that make layers, each with its position and its key."""
    pairs = enumerate(zip(goal.lock.steps, goal.cache_keys, strict=True))
    return [(position, key, step) for position, (step, key) in pairs if key is not None]


def make_plan(goal: Goal, here: Here, state: State | None, now: Tree | None, *, force: bool = False) -> InPlacePlan:
    """What brings the root, which is `now` and was left as `state` says, to `goal`.

    With `force` steps that drifted are done again although they cannot be taken back.
    """
    lock, wanted = goal.lock, layer_steps(goal)
    if state is None or now is None:
        return InPlacePlan(kept=0, back=(), run=tuple(n for n, _, _ in wanted), stuck=(), is_recorded=False)
    stuck: list[str] = []
    if state.base != lock.base.id:
        stuck.append("the container was synced over another base image: start one from the locked base")
    kept = 0
    for done, (_, key, step) in zip(state.steps, wanted, strict=False):
        if done.key != key or done.layer != layer_of(step):
            break
        kept += 1
    drifted = drift_of_steps(state, here, now)
    first = min((number for number in drifted if number < kept), default=None)
    if first is not None:
        if force or all(done.undo for done in state.steps[first:]):
            kept = first
        else:
            for number in sorted(number for number in drifted if number < kept):
                changed = first_of(f"/{path}" for path in drifted[number])
                stuck.append(f"{state.steps[number].text}: changed since the last sync: {changed}")
    back = tuple(reversed(state.steps[kept:]))
    stuck += [f"{done.text}: {done.why}" for done in back if done.undo is None]
    run = tuple(n for n, _, _ in wanted[kept:])
    return InPlacePlan(
        kept=kept,
        back=back,
        run=run,
        stuck=tuple(stuck),
        is_recorded=_is_recorded(lock, state),
        foreign=tuple(foreign_distributions(goal, here, state, now, run=run)),
    )


def as_synced(goal: Goal, here: Here, state: State | None) -> InPlacePlan | None:
    """The plan that changes nothing, if only what the steps made has to be looked at to know it; else None."""
    lock = goal.lock
    if state is None or state.made is None or state.base != lock.base.id or not _is_recorded(lock, state):
        return None
    if [(done.key, done.layer) for done in state.steps] != [(k, layer_of(s)) for _, k, s in layer_steps(goal)]:
        return None
    whiteouts = [p for d in state.steps for p, e in here.folder.layer(d.layer).items() if e.kind is Kind.WHITEOUT]
    made = here.folder.read_tree(state.made)
    if any(path not in made and os.path.lexists(on_disk(path)) for path in whiteouts) or not is_untouched(made):
        return None
    return InPlacePlan(kept=len(state.steps), back=(), run=(), stuck=(), is_recorded=True)


def _is_recorded(lock: TargetLock, state: State) -> bool:
    if state.record is None or state.doing is not None or state.forced:
        return False
    return (state.record.get("fingerprint"), state.record.get("variables")) == (lock.fingerprint, lock.environment)


def layer_of(step: StepLock) -> Digest:
    layer = layer_lock_of(step)
    assert layer is not None
    return layer.digest


def drift_of_steps(state: State, here: Here, now: Tree) -> dict[int, list[str]]:
    """The paths that changed since the steps, by the number of the step that made them last."""
    expected, owner = here.folder.made_by(state.steps)
    found: dict[int, list[str]] = {}
    for path, number in owner.items():
        if now.entry(path) != expected.get(path):
            found.setdefault(number, []).append(path)
    return found
