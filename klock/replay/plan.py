"""The plan: what a sync has to do, as data. It is what `--dry-run` prints and what replay carries out.

A step that made its locked layer on this machine, where the layer still is, is reused; any other step runs. Nothing is
decided later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from klock.digests import Digest
from klock.lockfile.model import DebianLock, OciLock, StepLock, TargetLock, is_forced, kept_layer_of, layer_of
from klock.replay.goal import Goal
from klock.steps import describe, kind_of
from klock.steps.at import StepAt
from klock.steps.results import layers_made_by
from klock.values import dataclass
from klock.words import in_bytes

if TYPE_CHECKING:
    from klock.store import Store
    from klock.workshop.protocol import Workshop

__all__ = [
    "Action",
    "AddBase",
    "Plan",
    "Remove",
    "ReplaceEnvironment",
    "ReuseLayer",
    "RunStep",
    "StartService",
    "Stuck",
    "TakeBack",
    "TakeLayer",
    "make_plan",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddBase:
    """Fetch what is missing of the base (`size` bytes) and unpack it."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"base {self.name}: fetch {in_bytes(self.size)}, unpack"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseLayer:
    """The step at `position` (from 0) is done: its locked layer is in the store."""

    position: int
    text: str

    def __str__(self) -> str:
        return f"step {self.position + 1} {self.text}: reuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """Run the step at `position` and compare its layer with the locked one; `size` bytes are fetched first."""

    position: int
    text: str
    reason: str = ""
    size: int = 0

    def __str__(self) -> str:
        fetch = f"fetch {in_bytes(self.size)}, " if self.size else ""
        reason = f" ({self.reason})" if self.reason else ""
        return f"step {self.position + 1} {self.text}: {fetch}run{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeBack:
    """Take back a step that was done in a running system and is not the locked one; `text` names it."""

    text: str

    def __str__(self) -> str:
        return f"take back {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove what somebody put in the way of a step; `text` names it."""

    text: str

    def __str__(self) -> str:
        return f"remove {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Why a running system cannot become the locked one, unless that is forced."""

    reason: str

    def __str__(self) -> str:
        return f"cannot: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeLayer:
    """Unpack the layer that the step at `position` keeps as an artifact: the step itself does not repeat."""

    position: int
    text: str

    def __str__(self) -> str:
        return f"step {self.position + 1} {self.text}: take the kept layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartService:
    """Start the service at `position` for half a second, to see that it lives."""

    position: int
    text: str

    def __str__(self) -> str:
        return f"step {self.position + 1} {self.text}: start and watch for 0.5 s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceEnvironment:
    """`reason` is empty where there is none yet."""

    reason: str

    def __str__(self) -> str:
        return f"environment: replace ({self.reason})" if self.reason else "environment: make"


Action: TypeAlias = (
    AddBase | ReuseLayer | RunStep | TakeLayer | StartService | ReplaceEnvironment | TakeBack | Remove | Stuck
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    actions: tuple[Action, ...]

    @property
    def changes_nothing(self) -> bool:
        return all(isinstance(action, ReuseLayer) for action in self.actions)

    @property
    def makes_layers(self) -> bool:
        """Whether something is to be done before the environment can be made of its layers."""
        return not all(isinstance(action, ReuseLayer | ReplaceEnvironment) for action in self.actions)

    @property
    def runs(self) -> int:
        """How many steps run."""
        return sum(isinstance(action, RunStep) for action in self.actions)


def make_plan(
    goal: Goal,
    *,
    workshop: Workshop,
    store: Store,
    record: Mapping[str, object] | None,
    clean: bool = True,
) -> Plan:
    """The plan that turns the environment that `record` describes into the locked one.

    `clean` is False when the environment is known to have drifted, so that it is replaced even if its record agrees.
    """
    lock = goal.lock
    steps = list(_plan_steps(goal, workshop, store))
    replace: list[Action] = []
    if record is None:
        replace.append(ReplaceEnvironment(reason=""))
    elif record.get("fingerprint") != lock.fingerprint:
        replace.append(ReplaceEnvironment(reason="the lockfile changed"))
    elif record.get("variables") != lock.environment:
        replace.append(ReplaceEnvironment(reason="its record was changed"))
    elif not clean:
        replace.append(ReplaceEnvironment(reason="it drifted"))
    services = [
        StartService(position=n, text=describe(step))
        for n, step in enumerate(lock.steps)
        if kind_of(step).is_service and replace
    ]
    base: list[Action] = []
    if not workshop.has_base(lock.base.id):
        base.append(AddBase(name=base_name(lock), size=_missing_base_bytes(lock, store)))
        replace = replace or [ReplaceEnvironment(reason="its base was removed from the store")]
    return Plan(actions=(*base, *steps, *services, *replace))


def _plan_steps(goal: Goal, workshop: Workshop, store: Store) -> Iterator[Action]:
    for position, (step, key) in enumerate(zip(goal.lock.steps, goal.cache_keys, strict=True)):
        kind, layer = kind_of(step), layer_of(step)
        if layer is None:
            continue
        text = kind.describe(step)
        reason = None
        if kept_layer_of(step) is not None:
            if not workshop.has_layer(layer.digest):
                yield TakeLayer(position=position, text=text)
                continue
        elif is_forced(step):
            reason = "forced"
        elif not workshop.has_layer(layer.digest):
            reason = "its layer is not in the store"
        elif key is None or layer.digest not in layers_made_by(key, store):
            reason = "it has not made the locked layer here"
        if reason is None:
            yield ReuseLayer(position=position, text=text)
        else:
            at: StepAt[StepLock] = StepAt(lock=goal.lock, position=position)
            size = _missing(store, ((item.digest, item.size) for item in kind.inputs(at)))
            yield RunStep(position=position, text=text, reason=reason, size=size)


def base_name(lock: TargetLock) -> str:
    base = lock.base
    return base.reference if isinstance(base, OciLock) else f"debian {base.suite}"


def _missing_base_bytes(lock: TargetLock, store: Store) -> int:
    base = lock.base
    if isinstance(base, DebianLock):
        return _missing(store, ((f"sha256:{deb.sha256}", deb.size) for deb in base.debs))
    blobs = [(base.config.digest, base.config.size), *((layer.digest, layer.size) for layer in base.layers)]
    return _missing(store, iter(blobs))


def _missing(store: Store, blobs: Iterator[tuple[Digest, int]]) -> int:
    return sum(size for digest, size in blobs if store.find_blob(digest) is None)
