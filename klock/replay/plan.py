"""The plan: what a sync has to do, as data. It is what `--dry-run` prints and what replay carries out.

A step that made its locked layer on this machine, where the layer still is, is reused; any other step runs. Nothing is
decided later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from klock.digests import Digest
from klock.lockfile.model import (
    AptLock,
    DebianLock,
    EnvLock,
    FilesLock,
    OciLock,
    PipLock,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
    VcsArtifact,
)
from klock.made import made_by
from klock.replay.goal import Goal
from klock.words import in_bytes

if TYPE_CHECKING:
    from klock.store import Store
    from klock.workshop.protocol import Workshop

__all__ = [
    "Action",
    "AddBase",
    "Plan",
    "ReplaceEnvironment",
    "ReuseLayer",
    "RunStep",
    "StartService",
    "Stuck",
    "TakeBack",
    "TakeLayer",
    "describe",
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
    reason: str

    def __str__(self) -> str:
        return f"environment: replace ({self.reason})"


Action: TypeAlias = AddBase | ReuseLayer | RunStep | TakeLayer | StartService | ReplaceEnvironment | TakeBack | Stuck


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    actions: tuple[Action, ...]

    @property
    def changes_nothing(self) -> bool:
        return all(isinstance(action, ReuseLayer) for action in self.actions)

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
    steps = list(_plan_steps(lock, goal.keys, workshop, store))
    replace: list[Action] = []
    if record is None:
        replace.append(ReplaceEnvironment(reason="there is none yet"))
    elif record.get("fingerprint") != lock.fingerprint:
        replace.append(ReplaceEnvironment(reason="the lockfile changed"))
    elif record.get("variables") != lock.environment:
        replace.append(ReplaceEnvironment(reason="its record was changed"))
    elif not clean:
        replace.append(ReplaceEnvironment(reason="it drifted"))
    services = [
        StartService(position=n, text=describe(step))
        for n, step in enumerate(lock.steps)
        if isinstance(step, ServiceLock) and replace
    ]
    base: list[Action] = []
    if not workshop.has_base(lock.base.id):
        base.append(AddBase(name=base_name(lock), size=_missing_base_bytes(lock, store)))
        replace = replace or [ReplaceEnvironment(reason="its base was removed from the store")]
    return Plan(actions=(*base, *steps, *services, *replace))


def _plan_steps(lock: TargetLock, keys: Sequence[Digest | None], workshop: Workshop, store: Store) -> Iterator[Action]:
    for position, (step, key) in enumerate(zip(lock.steps, keys, strict=True)):
        if isinstance(step, EnvLock | ServiceLock):
            continue
        text = describe(step)
        if isinstance(step, ShellLock) and step.kept is not None:
            if workshop.has_layer(step.layer.digest):
                yield ReuseLayer(position=position, text=text)
            else:
                yield TakeLayer(position=position, text=text)
        elif step.force:
            yield RunStep(position=position, text=text, reason="forced", size=_missing_bytes(step, lock, store))
        elif not workshop.has_layer(step.layer.digest):
            size = _missing_bytes(step, lock, store)
            yield RunStep(position=position, text=text, reason="its layer is not in the store", size=size)
        elif key is None or step.layer.digest not in made_by(key, store):
            size = _missing_bytes(step, lock, store)
            yield RunStep(position=position, text=text, reason="it has not made the locked layer here", size=size)
        else:
            yield ReuseLayer(position=position, text=text)


def base_name(lock: TargetLock) -> str:
    base = lock.base
    return base.reference if isinstance(base, OciLock) else f"debian {base.suite}"


def describe(step: StepLock) -> str:
    """The step in a few words on one line: `pip_install numpy>=1.24 (and 2 more)`."""
    match step:
        case EnvLock():
            return "set_env_vars " + _some([v.name for v in step.variables])
        case PipLock():
            return "pip_install " + _some(step.requirements)
        case AptLock():
            return "apt_install " + _some(step.packages)
        case FilesLock():
            verb = f"sync_package {step.package}" if step.package else f"rsync {step.source}"
            return f"{verb} -> {step.destination}"
        case ShellLock() | ServiceLock():
            first, _, more = step.command.strip().partition("\n")
            return "run_bash " + (first[:57] + "..." if len(first) > 60 or more else first)


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} (and {len(names) - 2} more)"


def _missing_base_bytes(lock: TargetLock, store: Store) -> int:
    base = lock.base
    if isinstance(base, DebianLock):
        return _missing(store, ((f"sha256:{deb.sha256}", deb.size) for deb in base.debs))
    blobs = [(base.config.digest, base.config.size), *((layer.digest, layer.size) for layer in base.layers)]
    return _missing(store, iter(blobs))


def _missing_bytes(step: StepLock, lock: TargetLock, store: Store) -> int:
    if isinstance(step, AptLock):
        return _missing(store, ((f"sha256:{deb.sha256}", deb.size) for deb in step.debs))
    if isinstance(step, ShellLock):
        return _missing(store, ((f"sha256:{r.sha256}", r.size) for r in step.requests if r.sha256 is not None))
    if isinstance(step, PipLock):
        packages = lock.packages_by_pin
        artifacts = [packages[pin].artifact for pin in step.packages]
        return _missing(store, ((f"sha256:{a.sha256}", a.size) for a in artifacts if not isinstance(a, VcsArtifact)))
    return 0


def _missing(store: Store, blobs: Iterator[tuple[Digest, int]]) -> int:
    return sum(size for digest, size in blobs if store.find_blob(digest) is None)
