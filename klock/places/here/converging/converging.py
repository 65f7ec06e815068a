"""Carrying out the plan: steps back and forth in the container's root, each written down before it begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from klock.digests import Digest
from klock.drift import compare_files
from klock.errors import EngineError, StepFailed
from klock.layers.manifest import Kind
from klock.places.here.contents import Here
from klock.places.here.converging.base import compare_base
from klock.places.here.converging.keeping import begin, is_current
from klock.places.here.converging.owning import anchors_of, kept_archive, own_paths
from klock.places.here.converging.plan import InPlacePlan, as_synced, drift_of_steps, layer_of, layer_steps, make_plan
from klock.places.here.converging.reading import Surroundings, read_as
from klock.places.here.converging.refusing import refuse_what_cannot_run
from klock.places.here.mounts import refuse_mounted
from klock.places.here.own import OwnPaths
from klock.places.here.state import FORCED, Doing, Done, State
from klock.places.here.tree import Tree
from klock.places.here.undo import difference_in, difference_of, lost, take_back
from klock.places.here.workspace import HereWorkspace
from klock.replay.goal import Goal
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.words import counted, listed
from klock.workshop.protocol import Layer

__all__ = ["converge"]


def converge(goal: Goal, *, here: Here, context: Context, force: bool = False) -> InPlacePlan:
    """Makes the container's root be what `goal` says, and keeps its record.

    With `force` what cannot be taken back stays, the locked steps are done over it, and layers that come out other than
    locked are told and kept. Raises EngineError when the container cannot become the locked one, StepFailed when a step
    does not make its locked layer.
    """
    with here.folder.lock():
        return _Converging(goal, here, replace(context, over_locked_base=False), force).converge(goal.record)


class _Converging:
    def __init__(self, goal: Goal, here: Here, context: Context, force: bool) -> None:
        self.lock, self.keys, self.here, self.context, self.force = goal.lock, goal.keys, here, context, force
        self.folder = here.folder
        self.wanted = layer_steps(goal.lock, goal.keys)

    def converge(self, record: dict[str, object]) -> InPlacePlan:
        state = self.folder.read()
        if (nothing := as_synced(self.lock, self.keys, self.here, state)) is not None:
            return nothing
        tree = self.here.root.scan(self.folder.read_tree(state.tree) if state else None)
        if state is None:
            compare_base(self.lock)
        elif state.doing is not None:
            state, tree = self._finish(state, state.doing, tree)
        plan = make_plan(self.lock, self.keys, self.here, state, tree if state else None)
        if plan.changes_nothing:
            return plan
        if plan.stuck and not self.force:
            raise EngineError(
                "this container cannot become the locked one:" + listed(plan.stuck),
                hint="start a new container, or do the locked steps over what is there: klock sync --here --force",
            )
        refuse_what_cannot_run(self.lock, plan, now=tree, here=self.here, context=self.context)
        if state is None:
            first = self.folder.write_tree(tree)
            state = State(base=self.lock.base.id, first=first, tree=first)
            self.folder.write(state)
        elif state.doing is None:
            # What programs wrote since the last sync is no step's doing.
            state = replace(state, tree=self.folder.write_tree(tree), record=None)
            self.folder.write(state)
        for done in plan.back:
            state = self._take_back(state, done)
        for position in plan.run:
            state = self._do(state, position)
        tree = self.here.root.scan(self.folder.read_tree(state.tree))
        if not self._is_locked(state, tree):
            record = {**record, "fingerprint": FORCED}
        paths = {path for done in state.steps for path in self.folder.layer(done.layer)}
        made = self.folder.write_tree(Tree({path: seen for path, seen in tree.items() if path in paths}))
        state = replace(
            state,
            tree=self.folder.write_tree(tree),
            made=made,
            record=record,
            left=tuple(path for path in state.left if path in tree and path not in paths),
        )
        self.folder.write(state)
        self.folder.forget_others(state)
        return plan

    def _is_locked(self, state: State, tree: Tree) -> bool:
        """Whether the root is what is locked, and not only what `force` could do."""
        layers = [layer_of(step) for _, _, step in self.wanted]
        return (
            not state.forced
            and state.base == self.lock.base.id
            and [done.layer for done in state.steps] == layers
            and not drift_of_steps(state, self.here, tree)
        )

    # -- what was cut short

    def _finish(self, state: State, doing: Doing, now: Tree) -> tuple[State, Tree]:
        """Takes back a step that a kill cut short, unless it is the next one, which is then done again."""
        before = self.folder.read_tree(state.tree)
        if doing.undo is None:
            following = self.wanted[len(state.steps) : len(state.steps) + 1]
            if [key for _, key, _ in following] == [doing.key]:
                return state, before
            if not self.force:
                raise EngineError(
                    f"this container is in the middle of a step that is not the next one of the lockfile: {doing.text}",
                    hint="start a new container, or do the locked steps over what is there: klock sync --here --force",
                )
            forced = (*state.forced, doing.text)
            return replace(state, doing=None, forced=forced, tree=self.folder.write_tree(now)), now
        self._restore(before, now, doing)
        state = replace(state, doing=None)
        self.folder.write(state)
        return state, self.here.root.scan(before)

    def _restore(self, before: Tree, now: Tree, doing: Doing) -> None:
        assert doing.undo is not None
        kept = self.folder.undo_folder(doing.undo) / "kept"
        was, added = difference_of(self.folder.read_own(doing.undo), before, now)
        if missing := lost(was, kept):
            raise EngineError(
                f"{doing.text} was cut short, and what it replaced was not kept: /{missing[0]}",
                hint="start a new container",
            )
        take_back(was, added, kept)

    # -- back and forth

    def _take_back(self, state: State, done: Done) -> State:
        if done.undo is None:
            self.context.progress.warn(f"{done.text}: what it did stays, as it cannot be taken back")
            forced = (*state.forced, done.text)
            state = replace(state, steps=state.steps[:-1], record=None, forced=forced)
        else:
            self.context.progress.begin(f"take back {done.text}")
            before, added = self.folder.read_undo(done.undo)
            state = replace(state, record=None)
            self.folder.write(state)
            take_back(before, added, self.folder.undo_folder(done.undo) / "kept")
            now = self.here.root.scan(self.folder.read_tree(state.tree))
            left = {*state.left, *added} & {path for path, seen in now.items() if seen.entry.kind is Kind.FOLDER}
            state = replace(
                state, steps=state.steps[:-1], tree=self.folder.write_tree(now), left=tuple(sorted(left - set(before)))
            )
            self.context.progress.done("done")
        self.folder.write(state)
        return state

    def _do(self, state: State, position: int) -> State:
        at, key = self.context.at(self.lock, position), self.keys[position]
        kind = kind_of(at.step)
        assert key is not None
        self.context.progress.begin(at.heading)
        if kind.can_be_taken_back:
            kind.fetch(at, self.context)
        own, is_all = own_paths(at, before=self.folder.read_tree(state.tree), here=self.here, context=self.context)
        if own is not None:
            # Looked at again: an earlier step may have made a symlink to what is mounted.
            refuse_mounted(own.exact, at.title)
        if state.doing is None:
            state = self._begin(state, at, key, own)
        doing, before = state.doing, self.folder.read_tree(state.tree)
        assert doing is not None
        if not is_all:
            own = None
        locked = layer_of(at.step)
        with self.here.root.open(before, own) as workspace:
            try:
                self._perform(at, workspace)
                layer = read_as(
                    locked,
                    workspace.snapshot(leave_out=kind.leave_out(at.step)),
                    Surroundings(
                        before=before, now=workspace.tree, own=own, anchors=anchors_of(at, own), left=state.left
                    ),
                )
                if layer.digest != locked:
                    self._another_layer(at, layer)
            except BaseException:
                self._give_up(state, doing, before)
                raise
            state = self._done(state, at, layer, before=before, now=workspace.tree)
        agrees = "as locked" if layer.digest == locked else "not as locked"
        self.context.progress.done(f"{counted(len(layer.manifest), 'entry')}, {agrees}")
        return state

    def _perform(self, at: StepAt[Any], workspace: HereWorkspace) -> None:
        if (archive := kept_archive(at, self.context.store)) is not None:
            self.here.root.apply(archive, layer_of(at.step))
        else:
            kind_of(at.step).perform(at, workspace, self.context)

    def _give_up(self, state: State, doing: Doing, before: Tree) -> None:
        if doing.undo is None:
            self.context.progress.warn(
                f"{doing.text} did not end well: what it did is still in the container; "
                "mend the cause and run `klock sync --here` again, or start a new container"
            )
            return
        self._restore(before, self.here.root.scan(before), doing)
        self.folder.write(replace(state, doing=None))

    def _done(self, state: State, at: StepAt[Any], layer: Layer, *, before: Tree, now: Tree) -> State:
        doing = state.doing
        assert doing is not None
        undo, why = doing.undo, "what a command did cannot be taken back"
        if undo is not None:
            was, added = difference_in(layer.manifest, before, now)
            added += [path for path in layer.manifest if path in state.left]
            if missing := lost(was, self.folder.undo_folder(undo) / "kept"):
                undo, why = None, f"it replaced /{missing[0]}, which was not kept"
            else:
                self.folder.write_undo(undo, was, added)
        self.folder.write_layer(layer.manifest)
        done = Done(
            key=doing.key,
            layer=layer.digest,
            text=doing.text,
            undo=undo,
            why="" if undo else why,
            leave_out=kind_of(at.step).leave_out(at.step),
        )
        state = replace(state, steps=(*state.steps, done), doing=None, tree=self.folder.write_tree(now))
        self.folder.write(state)
        return state

    def _another_layer(self, at: StepAt[Any], layer: Layer) -> None:
        locked = self.here.workshop.layer_manifest(layer_of(at.step))
        if locked is not None:
            differs = "it differs at" + listed(f.message for f in compare_files(locked, [], layer.manifest))
        else:
            differs = "it changed" + listed(f"/{path}" for path in layer.manifest)
        message = f"{at.name} made another layer than the locked one: {at.text}; {differs}"
        if not self.force:
            raise StepFailed(
                message,
                hint="the container was started from another base image, something else writes to it, the step's "
                f"inputs changed, or the step was done before and klock's notes in {self.folder.root} were lost; "
                "to keep what came out: klock sync --here --force",
            )
        self.context.progress.warn(message)

    def _begin(self, state: State, at: StepAt[Any], key: Digest, own: OwnPaths | None) -> State:
        """Writes down what the step is going to do, and what the root holds before it."""
        before = self.folder.read_tree(state.tree)
        if own is None or not is_current(before, own):
            before = self.here.root.scan(before)
            state = replace(state, tree=self.folder.write_tree(before))
        text = f"step {at.position + 1} {at.text}"
        if own is not None and kind_of(at.step).can_be_taken_back:
            doing = begin(key=key, text=text, own=own, before=before, folder=self.folder)
        else:
            doing = Doing(key=key, text=text, undo=None)
        state = replace(state, doing=doing, record=None)
        self.folder.write(state)
        return state
