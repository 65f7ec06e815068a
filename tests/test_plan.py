"""The plan: what a sync has to do, for each state of store and environment. Nothing is run here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from klock.layers.manifest import Manifest
from klock.lockfile.model import (
    DebianLock,
    DebPackage,
    EnvLock,
    ImageLock,
    LayerLock,
    LockedVariable,
    PipLock,
    ServiceLock,
    ShellLock,
    TargetLock,
)
from klock.places.protocol import Place
from klock.replay.goal import Goal
from klock.replay.plan import AddBase, ReplaceEnvironment, ReuseLayer, RunStep, StartService, make_plan
from klock.steps import describe
from klock.steps.cache_keys import cache_keys
from klock.steps.results import remember_layer
from klock.store import Store
from klock.targets import Target
from klock.workshop.protocol import Workshop
from tests.memory_workshop import MemoryPlace, MemoryWorkshop, file_entry

LAYERS = [Manifest([file_entry(name)]) for name in "abc"]


def shell(command: str, layer: Manifest, *, force: bool = False) -> ShellLock:
    return ShellLock(command=command, layer=LayerLock(digest=layer.digest, files=1, size=0), force=force)


LOCK = TargetLock(
    target=Target(),
    base=DebianLock(
        suite="bookworm",
        packages=(),
        debs=(DebPackage(name="d", version="1", architecture="all", path="p", size=2_500_000, sha256="1" * 64),),
        tree="sha256:" + "a" * 64,
    ),
    interpreter=None,
    steps=(
        shell("one", LAYERS[0]),
        EnvLock(variables=(LockedVariable(name="A", written="1", value="1"),)),
        shell("two", LAYERS[1]),
        ServiceLock(command="serve &"),
    ),
    packages=(),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def goal(lock: TargetLock = LOCK) -> Goal:
    keys = cache_keys(lock, image=ImageLock(name=""), normalisation=1)
    return Goal(name="test", lock=lock, cache_keys=tuple(keys), lock_digest="sha256:x", project=Path("/"))


def full_workshop(store: Store) -> MemoryWorkshop:
    """With all layers of the lock, made by its steps."""
    for key, step in zip(goal().cache_keys, LOCK.steps, strict=True):
        if key is not None and isinstance(step, ShellLock):
            remember_layer(key, step.layer.digest, store)
    workshop = MemoryWorkshop(layers={layer.digest: layer for layer in LAYERS})
    workshop.add_base(LOCK.base.id, [])
    return workshop


def record_of(lock: TargetLock) -> dict[str, object]:
    return {"fingerprint": lock.fingerprint, "variables": lock.environment}


def test_what_the_tests_use_in_memory_has_the_interfaces_of_the_real_ones(store: Store) -> None:
    workshop: Workshop = MemoryWorkshop()
    place: Place = MemoryPlace(MemoryWorkshop(), store)
    assert not workshop.has_base(LOCK.base.id)
    assert place.environments() == []


def test_on_an_empty_machine_everything_is_done(store: Store) -> None:
    plan = make_plan(goal(), workshop=MemoryWorkshop(), store=store, record=None)
    assert [str(action) for action in plan.actions] == [
        "base debian bookworm: fetch 2.5 MB, unpack",
        "step 1 run_bash one: run (its layer is not in the store)",
        "step 3 run_bash two: run (its layer is not in the store)",
        "step 4 run_bash serve &: start and watch for 0.5 s",
        "environment: make",
    ]
    assert plan.runs == 2


def test_with_all_layers_here_nothing_runs(store: Store) -> None:
    plan = make_plan(goal(), workshop=full_workshop(store), store=store, record=None)
    assert [type(action) for action in plan.actions] == [ReuseLayer, ReuseLayer, StartService, ReplaceEnvironment]
    assert plan.runs == 0


def test_a_layer_that_another_step_made_is_not_trusted(store: Store) -> None:
    one, variables, two, service = LOCK.steps
    assert isinstance(one, ShellLock) and isinstance(two, ShellLock)
    swapped = dataclasses.replace(
        LOCK,
        steps=(
            dataclasses.replace(one, layer=two.layer),
            variables,
            dataclasses.replace(two, layer=one.layer),
            service,
        ),
    )
    plan = make_plan(goal(swapped), workshop=full_workshop(store), store=store, record=None)
    assert [(a.position, a.reason) for a in plan.actions if isinstance(a, RunStep)] == [
        (0, "it has not made the locked layer here"),
        (2, "it has not made the locked layer here"),
    ]


def test_a_synced_environment_needs_nothing_case_41(store: Store) -> None:
    plan = make_plan(goal(), workshop=full_workshop(store), store=store, record=record_of(LOCK))
    assert plan.changes_nothing
    assert plan.runs == 0


def test_an_appended_step_is_the_only_one_to_run_case_42(store: Store) -> None:
    new = dataclasses.replace(LOCK, steps=(*LOCK.steps, shell("three", Manifest([file_entry("new")]))))
    plan = make_plan(goal(new), workshop=full_workshop(store), store=store, record=record_of(LOCK))
    assert [a.position for a in plan.actions if isinstance(a, RunStep)] == [4]
    assert ReplaceEnvironment(reason="the lockfile changed") in plan.actions


def test_a_drifted_environment_is_replaced(store: Store) -> None:
    record = record_of(LOCK)
    plan = make_plan(goal(), workshop=full_workshop(store), store=store, record=record, clean=False)
    assert ReplaceEnvironment(reason="it drifted") in plan.actions
    assert plan.runs == 0


def test_a_forced_step_runs_at_every_sync_case_40(store: Store) -> None:
    forced = dataclasses.replace(LOCK, steps=(shell("one", LAYERS[0], force=True), *LOCK.steps[1:]))
    plan = make_plan(goal(forced), workshop=full_workshop(store), store=store, record=record_of(forced))
    assert [(a.position, a.reason) for a in plan.actions if isinstance(a, RunStep)] == [(0, "forced")]


def test_a_base_that_was_pruned_is_fetched_again(store: Store) -> None:
    workshop = full_workshop(store)
    workshop.bases.clear()
    plan = make_plan(goal(), workshop=workshop, store=store, record=record_of(LOCK))
    assert isinstance(plan.actions[0], AddBase)
    assert not plan.changes_nothing


def test_blobs_in_the_store_are_not_counted_again(store: Store) -> None:
    digest = store.add_bytes(b"x" * 10)
    assert isinstance(LOCK.base, DebianLock)
    deb = dataclasses.replace(LOCK.base.debs[0], sha256=digest.removeprefix("sha256:"), size=10)
    lock = dataclasses.replace(LOCK, base=dataclasses.replace(LOCK.base, debs=(deb,)))
    (first, *_) = make_plan(goal(lock), workshop=MemoryWorkshop(), store=store, record=None).actions
    assert str(first) == "base debian bookworm: fetch 0 B, unpack"


def test_steps_are_described_on_one_line() -> None:
    layer = LayerLock(digest="sha256:" + "0" * 64, files=0, size=0)
    step = PipLock(requirements=("a", "b", "c", "d"), packages=(), layer=layer)
    assert describe(step) == "pip_install a, b (and 2 more)"
    assert describe(ShellLock(command="a <<E\nx\nE\n", layer=layer)) == "run_bash a <<E..."


def test_an_environment_whose_record_was_edited_is_replaced(store: Store) -> None:
    record = record_of(LOCK) | {"variables": {"A": "other"}}
    plan = make_plan(goal(), workshop=full_workshop(store), store=store, record=record)
    assert ReplaceEnvironment(reason="its record was changed") in plan.actions
