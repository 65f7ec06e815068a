"""What locking and replaying need around them, in one value: the image's folder, store, workshop, ways out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from klock.digests import Digest
from klock.fetching.mirrors import Mirrors
from klock.lockfile.model import TargetLock
from klock.packages.index_mirrors import IndexMirrors
from klock.progress import Progress
from klock.secrets.credential_files import Treatment
from klock.secrets.values import SHORTEST_SEARCHED, is_secret, may_be_secret
from klock.steps.at import StepAt
from klock.store import Store
from klock.targets import Target
from klock.values import dataclass, field, replace
from klock.workshop.protocol import Workshop

if TYPE_CHECKING:
    from klock.recorder import Passes
    from klock.recorder.doors import Where

__all__ = ["Context", "LayerCache", "StagePlaces"]


class LayerCache(Protocol):
    """Where others keep what steps made. What it gives is compared with what is locked."""

    def take(self, at: StepAt[Any], key: Digest, context: Context) -> bool:
        """Makes the workshop have a step's locked layer; False where the step is still to be made."""

    def take_base(self, lock: TargetLock, context: Context) -> None:
        """Brings in what the base is made of, as far as it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlaces:
    """What a context has of the image's own steps, of those of a stage."""

    locations: tuple[str | None, ...] = ()
    sources: Mapping[int, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """`root` is the folder of the image file, `environ` the process environment (for secrets). By a step's position:
    `locations` has the builder call, for messages, and `sources` the host file or folder that a file step copies.
    `local_hosts` are names that shell steps may reach although they lead to this machine. `credential_files` says what
    becomes of files that are credentials. `exclude_newer` is the moment that was asked for now. With `keep_base`
    nothing replaces Python packages that the base has, and with `strict` no two packages of a step have one path with
    different bytes. `stages` has places and sources of the stages that files are taken from, by name, and
    `make_layers` is what makes their layers. `cache` is where layers are looked for before a sync makes them.
    `over_locked_base` is False where steps are done over something that nobody has compared with the locked base in
    full."""

    root: Path
    mirrors: Mirrors
    index_url: str | None = None
    index_mirrors: IndexMirrors = field(default_factory=IndexMirrors)
    store: Store
    workshop: Workshop
    progress: Progress
    environ: Mapping[str, str]
    offline: bool = False
    targets: tuple[Target, ...] = ()
    pytorch_indexes: Mapping[str, str] = field(default_factory=dict)
    exclude_newer: str | None = None
    keep_base: bool = False
    strict: bool = False
    over_locked_base: bool = True
    local_hosts: tuple[str, ...] = ()
    credential_files: Treatment = Treatment.WARN
    locations: tuple[str | None, ...] = ()
    sources: Mapping[int, Path] = field(default_factory=dict)
    stages: Mapping[str, StagePlaces] = field(default_factory=dict)
    prefix: str = ""
    make_layers: Callable[[TargetLock, Context], None] | None = None
    cache: LayerCache | None = None

    def make_stage(self, name: str, lock: TargetLock) -> TargetLock:
        """A stage of `lock` whose layers are all in the workshop then, made where they are not."""
        stage = lock.locks_of_stages[name]
        assert self.make_layers is not None
        self.make_layers(stage, self.of_stage(name))
        return stage

    def of_stage(self, name: str) -> Context:
        """The context in which that stage's steps are."""
        places = self.stages.get(name, StagePlaces())
        prefix = f"stage-{list(self.stages).index(name)}-" if name in self.stages else ""
        return replace(self, locations=places.locations, sources=places.sources, prefix=prefix)

    def pytorch_index(self, target: Target) -> str | None:
        """Where PyTorch's packages for `target` are; None for the default index."""
        from klock.packages.pytorch import index_for

        configured = self.pytorch_indexes
        return index_for(target, self.targets, configured=configured, default_index=self.index_url)

    def named_servers(self, lock: TargetLock) -> frozenset[Where]:
        """The servers in what the user wrote: the steps of `lock`, its variables, the settings. They may be on this
        machine; those that a base or a package names may not."""
        from klock.recorder.doors import wheres_in
        from klock.steps import kind_of

        steps = (text for step in lock.steps for text in kind_of(step).texts(step))
        variables = (variable.value for variable in lock.variables)
        return wheres_in([*steps, *variables, *self.mirrors.debian.values(), self.index_url or ""])

    def passes(self, lock: TargetLock, *, settings: Iterable[str] = ()) -> Passes:
        """The way out for tools that run over the steps of `lock`: to any server, and as nobody in particular.

        `settings` are texts of the environment's own, whose servers may be at an address, but not on this machine.
        """
        from klock.recorder import Doors, Passes
        from klock.recorder.doors import elsewhere, wheres_in

        return Passes(
            store=self.store,
            doors=Doors(origins=self.named_servers(lock) | elsewhere(wheres_in(settings))),
            ca_bundle=self.mirrors.ca_bundle,
            local_hosts=self.local_hosts,
        )

    def at(self, lock: TargetLock, position: int) -> StepAt[Any]:
        """The step of `lock` at `position` (from 0), with what is known of where it comes from."""
        location = self.locations[position] if position < len(self.locations) else None
        return StepAt(
            lock=lock, position=position, location=location, source=self.sources.get(position), prefix=self.prefix
        )

    def each(self, lock: TargetLock) -> Iterator[StepAt[Any]]:
        """All steps of `lock`, in order."""
        return (self.at(lock, position) for position in range(len(lock.steps)))

    def secret_values(self, lock: TargetLock) -> list[str]:
        """What must not be kept or shown: the credentials that `lock` names, and others of klock's own environment."""
        named = [value for name in sorted(lock.secrets) if (value := self.environ.get(name))]
        others = [v for name, v in sorted(self.environ.items()) if is_secret(name, v) and may_be_secret(v)]
        return list(dict.fromkeys([*named, *(value for value in others if len(value) >= SHORTEST_SEARCHED)]))
