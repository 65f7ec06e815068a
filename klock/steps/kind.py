"""What the rest of klock may ask of a kind of step. A kind's room answers where its answer is another one than here.

The life of a step: the image's step is *drafted* (what follows from the image and local files alone), *completed* (what
has to be looked up), *made* once while locking, and *performed* at every replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, cast

from klock.digests import Digest
from klock.forks import Tally
from klock.lockfile.model import (
    AptLock,
    CondaPackage,
    DebPackage,
    DownloadedFile,
    FetchedRepository,
    LayerLock,
    LockedPackage,
    LockedRequest,
    PipLock,
    PythonLock,
    StepLock,
    TargetLock,
    kept_layer_of,
    layer_of,
    with_layer,
)
from klock.steps.parts import Part, Sort
from klock.values import dataclass, replace

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.findings import Finding
    from klock.image.steps import Step
    from klock.layers.manifest import Manifest
    from klock.steps.at import StepAt
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.locking import Locking
    from klock.steps.newer import Looking, Newer
    from klock.steps.searchable import Searchable
    from klock.steps.unrepeatable import Unrepeatable
    from klock.workshop.protocol import Command, Layer, Workspace

__all__ = [
    "UNKNOWN_LAYER",
    "Fetched",
    "Input",
    "Kind",
    "Look",
    "Made",
    "OpenBelow",
    "RunningSystem",
    "Writes",
    "layer_lock_of",
    "ways_of",
]

S = TypeVar("S", bound="Step")
L = TypeVar("L", bound=StepLock)

UNKNOWN_LAYER = LayerLock(digest="sha256:" + "0" * 64, files=0, size=0)
"""The layer of a step that was not made yet."""


def layer_lock_of(manifest: Manifest, *, sketched: bool = True) -> LayerLock:
    from klock.layers.sketch import sketch_of

    sketch = sketch_of(manifest) if sketched and len(manifest) else None
    return LayerLock(digest=manifest.digest, files=len(manifest), size=manifest.size, sketch=sketch)


def ways_of(step: PipLock | AptLock) -> list[Any]:
    """What the ways out of not repeating add to the step's key: nothing where none is taken."""
    return [list(step.leave_out), step.keep_layer] if step.leave_out or step.keep_layer else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Bytes that replay needs. `size` in bytes; `name` is for messages. `permanent`: upstream will have them later too.

    What is not permanent was made here once, or is served only until upstream moves on.
    """

    digest: Digest
    size: int
    name: str
    permanent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Made(Generic[L]):
    """A step with its layer. `prove` does the step once more, and raises StepFailed when it makes another layer; None
    where nothing is to be proven. Until then the layer may not be locked."""

    step: L
    prove: Callable[[Context], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """What a step is going to write in a running system, as far as that can be foreseen: absolute paths.

    In the folders `whole` everything is the step's own; below `roots` its tools may also do what cannot be foreseen.
    `replaces_bytecode`: also what was compiled from the sources among `paths`. `is_all` is False when a build may write
    anything.
    """

    paths: Sequence[str]
    whole: Sequence[str] = ()
    roots: Sequence[str] = ()
    replaces_bytecode: bool = False
    is_all: bool = True


class RunningSystem(Protocol):
    """The root file system that a step is about to be done in: what is there, and a workspace to ask its programs."""

    @property
    def manifest(self) -> Manifest: ...

    def open(self) -> AbstractContextManager[Workspace]: ...


Fetched: TypeAlias = (
    LockedPackage | DebPackage | CondaPackage | DownloadedFile | FetchedRepository | LockedRequest | PythonLock
)
Look: TypeAlias = "Callable[[Searchable], None]"
OpenBelow: TypeAlias = "Callable[[], AbstractContextManager[Workspace]]"


class Kind(Generic[S, L]):
    """One kind of step: S is what the builder collects, L is what the lockfile holds."""

    method: ClassVar[str]
    """What the builder calls it."""
    runs_commands: ClassVar[bool] = False
    """Whether it runs programs of the image: it may bring a Python, change anything, and cannot be taken back."""
    asks_python: ClassVar[bool] = False
    """Whether what it writes depends on the Python that is there before it."""
    fetches: ClassVar[bool] = False
    """Whether `fetch` brings in all that a replay needs, so that it can be called ahead."""
    is_composed: ClassVar[bool] = False
    """Whether its layer is composed of its inputs in little time: whoever has those need not be given the layer."""
    is_copied: ClassVar[bool] = False
    """Whether all of it comes from local files, so that no upgrade can move it."""

    # -- words

    def describe(self, step: L) -> str:
        """The step in a few words on one line: `pip_install numpy>=1.24 (and 2 more)`."""
        raise NotImplementedError

    def texts(self, step: L) -> Sequence[str]:
        """What of it may name servers that the user means."""
        return ()

    # -- from the image to a draft

    def draft(self, step: S, drafting: Drafting) -> L:
        """What follows from the image and local files alone. Raises ImageError."""
        raise NotImplementedError

    def as_draft(self, step: L) -> L:
        """The step without what locking added to its draft."""
        raise NotImplementedError

    def changes(self, before: L, after: L) -> Iterator[Finding]:
        """How two drafts differ. `step` and `location` are the caller's to fill in."""
        raise NotImplementedError

    def check(self, step: S, drafting: Drafting) -> None:
        """Raises ImageError for what is wrong with the step and a draft does not look at."""

    def source(self, step: S) -> Path | None:
        """The host file or folder that it copies."""
        return None

    def named_path(self, step: S) -> Path | None:
        """The path that the user named for `source`, perhaps relative to the project's folder; None for a name."""
        return self.source(step)

    # -- locking

    def complete(self, draft: L, locking: Locking) -> L:
        """The draft with what has to be looked up before it can be made. Raises KlockError, and BackTo."""
        return draft

    def unrepeatable(self, at: StepAt[L]) -> Sequence[Unrepeatable]:
        """What it would make anew each time, as far as that is known before it is made."""
        return ()

    def before_it_ran(self, step: L) -> L:
        """The step as its key sees it before it runs, when nobody knows yet what it will fetch."""
        return step

    def kept(self, completed: L, before: L) -> L:
        """`completed`, which need not run, as `before` is the same step with its layer."""
        layer, kept = layer_of(before), kept_layer_of(before)
        assert layer is not None
        done = with_layer(completed, layer)
        return cast(L, done if kept is None else replace(cast(Any, done), kept=kept))

    def remembers(self, step: L) -> bool:
        """Whether a layer that it made earlier, under the same key, can be taken without another run."""
        return not self.keeps_layer(step)

    def repeats(self, at: StepAt[L]) -> bool:
        """Whether its layer is a function of hashed inputs by klock's own code; else it is made twice."""
        return False

    def is_made_of_notes(self, at: StepAt[L]) -> bool:
        """Whether its layer is composed of manifests alone, which the store has: no file below it counts."""
        return False

    def make(self, at: StepAt[L], context: Context) -> Made[L]:
        """The step with the layer it makes over what is below, which is in the store then, and the proof that is due.

        Raises StepFailed when it fails.
        """
        from klock.steps.repeating import keep_layer, prove_that_it_repeats
        from klock.steps.today import tell_of_today

        is_proven = not self.keeps_layer(at.step) and not self.repeats(at)
        layer = self.produce(
            at, context, look=lambda written: tell_of_today(at, written, context) if is_proven else None
        )
        for note in layer.notes:
            context.progress.warn(f"{at.name}: {note}")
        step = with_layer(at.step, self.locked_layer(at.step, layer.manifest))
        if self.keeps_layer(at.step):
            return Made(step=cast(L, replace(cast(Any, step), kept=keep_layer(layer, context))))
        if self.repeats(at):
            return Made(step=cast(L, step))
        return Made(step=cast(L, step), prove=lambda context: prove_that_it_repeats(at, layer, context))

    def produce(self, at: StepAt[L], context: Context, *, varied: bool = False, look: Look = lambda _: None) -> Layer:
        """Does the step once over its locked predecessors, which are in the store: at lock and at replay.

        `varied`: see `klock.workshop.protocol.Workshop.open`. `look` is called when the step is done, before its layer
        is taken. Raises StepFailed.
        """
        with context.workshop.open(at.lock.base.id, at.below, varied=varied) as workspace:
            with at.named_in_errors():
                self.perform(at, workspace, context)
            look(workspace)
            return self.taken(at, workspace, context)

    def taken(
        self, at: StepAt[L], workspace: Workspace, context: Context, *, look: Callable[[Digest], None] | None = None
    ) -> Layer:
        """The layer of what was done in `workspace`, kept; `look` is `klock.workshop.protocol.Workspace.snapshot`'s."""
        tally = Tally("files")
        with context.progress.stage("hash", tally):
            return workspace.snapshot(leave_out=self.leave_out(at.step), keep=self.keep(at), tally=tally, look=look)

    def as_locked(self, manifest: Manifest) -> Manifest:
        """A layer of it that was read off a running system, in the form in which the workshop makes it."""
        return manifest

    def locked_layer(self, step: L, manifest: Manifest) -> LayerLock:
        """What the lockfile says of a layer that it made."""
        return layer_lock_of(manifest, sketched=not self.is_copied)

    def result(self, step: L) -> str:
        """What was made, in a few words: `12 entries`."""
        from klock.words import counted

        layer = layer_of(step)
        return "no layer" if layer is None else counted(layer.files, "entry")

    def parts(self, at: StepAt[L]) -> Iterator[Part]:
        """What it brings, as people ask about it: here the step itself, told apart by all that its draft says."""
        from klock.digests import digest_of_json
        from klock.lockfile.codec import encode

        draft = digest_of_json(encode(self.as_draft(at.step)))
        yield Part(sort=Sort.STEP, name=self.describe(at.step), identity=draft)

    def asks_for(self, step: L) -> frozenset[str]:
        """The names that the user's own words may mean packages by: Python's normalised (PEP 503), and Debian's."""
        return frozenset()

    def lapsing(self, step: L) -> Mapping[Digest, int]:
        """Answers that upstream will not give again once it moves on, with their sizes in bytes."""
        return {}

    def moved(self, at: StepAt[L], context: Context, asker: Asker) -> Iterator[Finding]:
        """Where upstream no longer says what is locked. `step` and `location` are the caller's to fill in. Raises
        FetchError when nothing of it can be asked; what else cannot is noted."""
        return iter(())

    def newer(self, at: StepAt[L], looking: Looking) -> Iterator[Newer]:
        """What upstream has another version of. Raises FetchError when nothing of it can be asked."""
        return iter(())

    # -- replay

    def content(self, at: StepAt[L], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        """What enters the step's key beside what is below. The first word is the kind's."""
        raise NotImplementedError

    def perform(self, at: StepAt[L], workspace: Workspace, context: Context) -> None:
        """Does the step in `workspace`, which shows the base and all layers below. Raises StepFailed."""
        raise NotImplementedError

    def leave_out(self, step: L) -> tuple[str, ...]:
        """Patterns of paths that are not part of its layer."""
        return tuple(getattr(step, "leave_out", ()))

    def keep(self, at: StepAt[L]) -> tuple[str, ...]:
        """Patterns of paths that are part of its layer although layers leave them out."""
        return tuple(getattr(at.step, "keep", ()))

    def keeps_layer(self, step: L) -> bool:
        """Whether it never runs at replay, its layer being an artifact."""
        return bool(getattr(step, "keep_layer", False))

    def fetched(self, at: StepAt[L]) -> Iterator[Fetched]:
        """What of the step comes from elsewhere, as the lockfile names it: packages, downloads, repositories."""
        return iter(())

    def inputs(self, at: StepAt[L]) -> Iterator[Input]:
        """What it needs from outside of the project. With its layer as an artifact that is all."""
        kept = kept_layer_of(at.step)
        if kept is None:
            yield from self.inputs_to_run(at)
        else:
            yield Input(
                digest=f"sha256:{kept.sha256}", size=kept.size, name=f"the kept layer of {at.text}", permanent=False
            )

    def inputs_to_run(self, at: StepAt[L]) -> Iterator[Input]:
        """What it needs to be performed."""
        return iter(())

    def built(self, at: StepAt[L]) -> Iterator[Input]:
        """What was made of its inputs while locking, and is taken instead of being made again."""
        return iter(())

    def fetch(self, at: StepAt[L], context: Context) -> None:
        """Brings its inputs into the store, as far as they can be fetched ahead. Raises FetchError, HashMismatch."""

    def bring_in(
        self, at: StepAt[L], wanted: Set[Digest], context: Context, *, open_below: OpenBelow
    ) -> Iterator[Callable[[], None]]:
        """Tasks that have the store hold those of its inputs that are `wanted`. Each may raise KlockError by itself.

        `open_below` makes what is missing of the layers below, and opens a workspace over them.
        """
        return iter(())

    # -- what runs beside commands

    is_service: ClassVar[bool] = False

    def service(
        self, step: L, *, lock: TargetLock, variables: Mapping[str, str], environ: Mapping[str, str]
    ) -> Command:
        """The command that is started with every command of the environment."""
        raise NotImplementedError

    def try_out(self, at: StepAt[L], workspace: Workspace, context: Context) -> None:
        """Starts the service for half a second. Raises StepFailed when it fails in it."""
        raise NotImplementedError

    def copied_paths(self, step: L) -> Iterator[str]:
        """The paths below `source` that it copies."""
        return iter(())

    def looks_into(self, step: L) -> Iterator[str]:
        """Folders, from the image file's, in which a file that comes to be there may count."""
        return iter(())

    def copies_to(self, step: L) -> str | None:
        """The absolute path at which its local files are then."""
        return None

    # -- in a running system

    can_be_taken_back: ClassVar[bool] = False

    def needs_isolation(self, at: StepAt[L]) -> bool:
        """Whether it runs what an image or a package brings: that could reach the network, and do anything."""
        return self.runs_commands

    def perform_in(self, at: StepAt[L], workspace: Workspace, system: RunningSystem, context: Context) -> None:
        """Does the step in a running system, which `workspace` works in. Raises StepFailed."""
        self.perform(at, workspace, context)

    def writes(self, at: StepAt[L], system: RunningSystem, context: Context) -> Writes | None:
        """What it is going to write there; None for a step that may write anything."""
        return None

    def installs(self, at: StepAt[L]) -> frozenset[str]:
        """The normalised names (PEP 503) of the Python projects that it installs."""
        return frozenset()

    def anchors(self, step: L) -> list[str]:
        """Absolute paths at and below which it may find what it makes, as others may have made it."""
        return []

    # -- export

    def export(self, at: StepAt[L], exporting: Exporting) -> None:
        """Writes it for another tool. Raises KlockError for what that cannot hold."""
        raise NotImplementedError
