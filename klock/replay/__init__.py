"""Replay: carrying out a plan, so that the environment is made of exactly the locked bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from klock.bases import fetch_base
from klock.digests import Digest
from klock.drift import compare_files
from klock.errors import FetchError, StepFailed
from klock.lockfile.model import AptLock, EnvLock, PipLock, ServiceLock, ShellLock, TargetLock
from klock.made import remember
from klock.replay.ahead import Ahead, fetching_ahead
from klock.replay.goal import Goal
from klock.replay.perform import perform, try_service
from klock.replay.plan import (
    Action,
    AddBase,
    Plan,
    ReplaceEnvironment,
    RunStep,
    StartService,
    TakeLayer,
    describe,
)
from klock.steps.context import Context
from klock.words import counted, listed
from klock.workshop.protocol import Layer

__all__ = ["carry_out", "make_layers"]


def carry_out(plan: Plan, goal: Goal, context: Context, *, replace: Callable[[], None]) -> None:
    """Does what the plan says; `replace` makes the environment be the locked base and layers.

    When a step fails nothing of the environment was touched.
    """
    with fetching_ahead(goal.lock, _later_fetches(plan, goal.lock), context) as ahead:
        for action in plan.actions:
            if isinstance(action, ReplaceEnvironment):
                replace()
            else:
                _carry_out(action, goal, ahead, context)


def _later_fetches(plan: Plan, lock: TargetLock) -> list[int]:
    """The positions of the steps that have something to fetch, while something before them is done."""
    working = [action for action in plan.actions if isinstance(action, AddBase | RunStep | TakeLayer)]
    return [
        action.position
        for action in working[1:]
        if isinstance(action, RunStep) and action.size and isinstance(lock.steps[action.position], AptLock | PipLock)
    ]


def _carry_out(action: Action, goal: Goal, ahead: Ahead, context: Context) -> None:
    lock = goal.lock
    match action:
        case AddBase():
            _ensure_base(lock, context)
        case RunStep():
            if action.size:
                ahead.wait()
            context.progress.begin(f"step {action.position + 1} {action.text}{context.where(action.position)}")
            layer = _run_step(lock, action.position, context, key=goal.keys[action.position])
            context.progress.done(f"{counted(len(layer.manifest), 'entry')}, as locked")
        case TakeLayer():
            context.progress.begin(f"step {action.position + 1} {action.text}{context.where(action.position)}")
            _take_layer(lock, action.position, context)
            context.progress.done("the kept layer")
        case StartService():
            context.progress.begin(f"step {action.position + 1} {action.text}{context.where(action.position)}")
            with context.workshop.open(lock.base.id, lock.layers) as workspace:
                try_service(lock, action.position, workspace, context)
            context.progress.done("it starts")


def _ensure_base(lock: TargetLock, context: Context) -> None:
    """Makes the base be in the workshop's store, fetched by digest."""
    fetch_base(
        lock.base,
        workshop=context.workshop,
        store=context.store,
        mirrors=context.mirrors,
        root=context.root,
        offline=context.offline,
        progress=context.progress,
    )


def make_layers(lock: TargetLock, context: Context) -> None:
    """Makes the base and every step's locked layer be in the workshop's store, running what is missing."""
    if not context.workshop.has_base(lock.base.id):
        _ensure_base(lock, context)
    for position, step in enumerate(lock.steps):
        if isinstance(step, EnvLock | ServiceLock) or context.workshop.has_layer(step.layer.digest):
            continue
        context.progress.begin(f"step {position + 1} {describe(step)}{context.where(position)}")
        if isinstance(step, ShellLock) and step.kept is not None:
            _take_layer(lock, position, context)
            context.progress.done("the kept layer")
        else:
            _run_step(lock, position, context)
            context.progress.done("as locked")


def _take_layer(lock: TargetLock, position: int, context: Context) -> None:
    """Brings the layer that the step at `position` keeps into the store. Raises FetchError when it is lost."""
    step = lock.steps[position]
    assert isinstance(step, ShellLock) and step.kept is not None
    archive = context.store.find_blob(f"sha256:{step.kept.sha256}")
    if archive is None:
        raise FetchError(
            f"step {position + 1}{context.where(position)} keeps its layer, and that is not on this machine: "
            f"{describe(step)}",
            hint="bring it here with `klock vault pull DIR`, from where `klock vault push DIR` put it",
        )
    context.workshop.add_layer(archive, step.layer.digest)


def _run_step(lock: TargetLock, position: int, context: Context, *, key: Digest | None = None) -> Layer:
    """Runs one step over its locked predecessors and returns its layer, which is remembered for `key`.

    Raises StepFailed when it is not the locked one.
    """
    step = lock.steps[position]
    assert not isinstance(step, EnvLock | ServiceLock)
    leave_out = step.leave_out if isinstance(step, ShellLock) else ()
    with context.workshop.open(lock.base.id, replace(lock, steps=lock.steps[:position]).layers) as workspace:
        perform(lock, position, workspace, context)
        layer = workspace.snapshot(leave_out=leave_out)
    if key is not None:
        remember(key, layer.digest, context.store)
    if layer.digest != step.layer.digest:
        raise StepFailed(
            f"step {position + 1}{context.where(position)} made another layer than the locked one: {describe(step)}"
            + _difference(step.layer.digest, layer, context),
            hint="its inputs changed upstream, or it does not repeat; `klock lock` locks what it makes now",
        )
    return layer


def _difference(locked: str, made: Layer, context: Context) -> str:
    """The first paths at which two layers differ, each on a line of its own."""
    manifest = context.workshop.layer_manifest(locked)
    if manifest is None:
        folders: dict[str, int] = {}
        for path in made.manifest:
            folder = "/" + "/".join(path.split("/")[:2])
            folders[folder] = folders.get(folder, 0) + 1
        shown = listed(f"{folder} ({counted(count, 'entry')})" for folder, count in sorted(folders.items()))
        return (
            f"\n  locked {locked}\n  made   {made.digest}\n  the locked layer is not on this machine; made were{shown}"
        )
    return listed(f.message for f in compare_files(manifest, [], made.manifest))
