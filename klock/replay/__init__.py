"""Replay: carrying out a plan, so that the environment is made of exactly the locked bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from klock.digests import Digest, hex_of
from klock.errors import FetchError
from klock.lockfile.model import TargetLock, is_forced, kept_layer_of, layer_of
from klock.replay.goal import Goal
from klock.replay.plan import (
    Action,
    AddBase,
    Plan,
    ReplaceEnvironment,
    RunStep,
    StartService,
    TakeLayer,
)
from klock.steps import kind_of
from klock.values import replace
from klock.words import counted

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.replay.prefetch import Prefetch
    from klock.steps.at import StepAt
    from klock.steps.context import Context
    from klock.workshop.protocol import Layer, Workspace

__all__ = ["carry_out", "make_layers", "opened_over"]


def carry_out(plan: Plan, goal: Goal, context: Context, *, replace: Callable[[], None]) -> int:
    """Does what the plan says; `replace` makes the environment be the locked base and layers. Returns how many steps
    ran: those whose layers a cache had did not.

    When a step fails nothing of the environment was touched.
    """
    plan = _without_cached(plan, goal, context)
    with _prefetching(_later_fetches(plan, goal, context), context) as prefetch:
        for action in plan.actions:
            if isinstance(action, ReplaceEnvironment):
                with context.progress.stage("compose the environment"):
                    replace()
            else:
                _carry_out(action, goal, prefetch, context)
    return plan.runs


def _prefetching(steps: list[StepAt[Any]], context: Context) -> AbstractContextManager[Prefetch | None]:
    if not steps:
        return nullcontext()
    from klock.replay.prefetch import prefetching

    return prefetching(steps, context)


def _without_cached(plan: Plan, goal: Goal, context: Context) -> Plan:
    """The plan without the steps whose layers a cache had. They are here then, as is what else it had for the plan."""
    if context.cache is None:
        return plan
    taken = set()
    for action in plan.actions:
        if isinstance(action, AddBase):
            context.cache.take_base(goal.lock, context)
        elif isinstance(action, RunStep) and (key := goal.cache_keys[action.position]) is not None:
            at = context.at(goal.lock, action.position)
            if not is_forced(at.step) and context.cache.take(at, key, context):
                context.progress.note(f"{at.name}: taken from the cache")
                taken.add(action)
    return replace(plan, actions=tuple(action for action in plan.actions if action not in taken))


def _later_fetches(plan: Plan, goal: Goal, context: Context) -> list[StepAt[Any]]:
    """The steps that have something to fetch, while something before them is done."""
    working = [action for action in plan.actions if isinstance(action, AddBase | RunStep | TakeLayer)]
    fetching = [context.at(goal.lock, a.position) for a in working[1:] if isinstance(a, RunStep) and a.size]
    return [at for at in fetching if kind_of(at.step).fetches]


def _carry_out(action: Action, goal: Goal, prefetch: Prefetch | None, context: Context) -> None:
    match action:
        case AddBase():
            _ensure_base(goal.lock, context)
        case RunStep():
            if action.size and prefetch is not None:
                prefetch.wait()
            at = context.at(goal.lock, action.position)
            context.progress.begin(at.heading)
            layer = _run_step(at, context, key=goal.cache_keys[action.position])
            context.progress.done(f"{counted(len(layer.manifest), 'entry')}, as locked")
        case TakeLayer():
            at = context.at(goal.lock, action.position)
            context.progress.begin(at.heading)
            _take_layer(at, context)
            context.progress.done("the kept layer")
        case StartService():
            at = context.at(goal.lock, action.position)
            context.progress.begin(at.heading)
            with context.workshop.open(goal.lock.base.id, goal.lock.layers) as workspace:
                kind_of(at.step).try_out(at, workspace, context)
            context.progress.done("started")


def _ensure_base(lock: TargetLock, context: Context) -> None:
    """Makes the base be in the workshop's store, fetched by digest: once, if several stages begin with it."""
    from klock.bases import fetch_base

    with context.store.lock(f"fetch-{hex_of(lock.base.id)}"):
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
    for at in context.each(lock):
        layer = layer_of(at.step)
        if layer is None or context.workshop.has_layer(layer.digest):
            continue
        context.progress.begin(at.heading)
        if kept_layer_of(at.step) is not None:
            _take_layer(at, context)
            context.progress.done("the kept layer")
        else:
            _run_step(at, context)
            context.progress.done("as locked")


@contextmanager
def opened_over(lock: TargetLock, context: Context) -> Iterator[Workspace]:
    """A workspace over all steps of `lock`; what is missing of them is made when it is first used."""
    from klock.workshop.later import LaterWorkspace

    with ExitStack() as stack:

        def open_it() -> Workspace:
            make_layers(lock, context)
            return stack.enter_context(context.workshop.open(lock.base.id, lock.layers))

        yield LaterWorkspace(open_it, is_still=context.workshop.is_still)


def _take_layer(at: StepAt[Any], context: Context) -> None:
    """Brings the layer that a step keeps into the store. Raises FetchError when it is lost."""
    kept, layer = kept_layer_of(at.step), layer_of(at.step)
    assert kept is not None and layer is not None
    archive = context.store.find_blob(f"sha256:{kept.sha256}")
    if archive is None:
        raise FetchError(
            f"{at.name}: its kept layer is not on this machine: {at.text}",
            hint="get the layer from a vault: klock vault pull DIR",
        )
    context.workshop.add_layer(archive, layer.digest)


def _run_step(at: StepAt[Any], context: Context, *, key: Digest | None = None) -> Layer:
    """Runs one step over its locked predecessors and returns its layer, which is remembered for `key`.

    Raises StepFailed when it is not the locked one.
    """
    locked = layer_of(at.step)
    assert locked is not None
    layer = kind_of(at.step).produce(at, context)
    if key is not None:
        from klock.steps.results import remember_layer

        remember_layer(key, layer.digest, context.store)
    if layer.digest != locked.digest:
        from klock.steps.differing import differences_from
        from klock.steps.repeating import ways_out

        raise at.failed(
            f" made another layer than the locked one: {at.text}{differences_from(locked, layer.manifest, context)}",
            hint=f"the step depends on more than what is locked, such as the date or this machine: {ways_out(at)}; "
            "then run `klock lock`",
        )
    return layer
