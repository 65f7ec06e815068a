"""What a sync in place must not begin: a step without the sandbox or layer it needs, or with a mount in its way."""

from __future__ import annotations

from pathlib import Path

from klock.errors import FetchError
from klock.lockfile.model import AptLock, PipLock, ShellLock, StepLock, TargetLock, WheelArtifact
from klock.places.here.contents import Here
from klock.places.here.converging.owning import kept_archive, own_paths
from klock.places.here.converging.plan import InPlacePlan
from klock.places.here.mounts import refuse_mounted
from klock.places.here.tree import Tree
from klock.places.here.workspace import not_isolated
from klock.replay.perform import fetch_for
from klock.replay.plan import describe
from klock.steps.context import Context

__all__ = ["named", "refuse_what_cannot_run"]


def refuse_what_cannot_run(lock: TargetLock, plan: InPlacePlan, *, now: Tree, here: Here, context: Context) -> None:
    """Raises KlockError before anything is touched. Packages are fetched first: they say what their steps write."""
    for position in plan.run:
        step = lock.steps[position]
        if isinstance(step, ShellLock) and step.kept is not None:
            if kept_archive(step, context.store) is None:
                raise FetchError(
                    f"{named(lock, position, context)} keeps its layer, and that is not on this machine",
                    hint="bring it here with `klock vault pull DIR`, from where `klock vault push DIR` put it",
                )
        elif _needs_isolation(lock, step) and (why := here.root.why_plain) is not None:
            raise not_isolated(named(lock, position, context), why)
    for done in plan.back:
        if done.undo is not None:
            before, added = here.folder.read_undo(done.undo)
            refuse_mounted([*before, *added], f"{done.text} cannot be taken back")
    for position in plan.run:
        if _can_be_foreseen(lock, position, plan):
            if isinstance(lock.steps[position], PipLock):
                fetch_for(lock, position, context)
            own = own_paths(lock, position, before=now, here=here, store=context.store)
            refuse_mounted([] if own is None else own.exact, named(lock, position, context))


def named(lock: TargetLock, position: int, context: Context) -> str:
    """How messages name a step."""
    return f"step {position + 1}{context.where(position)}: {describe(lock.steps[position])}"


def _can_be_foreseen(lock: TargetLock, position: int, plan: InPlacePlan) -> bool:
    """Where packages go is asked of a Python that a step before may be about to bring."""
    if not isinstance(lock.steps[position], PipLock):
        return True
    first = not any(isinstance(lock.steps[n], ShellLock | AptLock) for n in plan.run if n < position)
    return first and lock.interpreter is not None and Path(lock.interpreter.path).is_file()


def _needs_isolation(lock: TargetLock, step: StepLock) -> bool:
    """Whether the step runs what an image or a package brings: it could reach the network, and do anything."""
    if isinstance(step, ShellLock | AptLock):
        return True
    if isinstance(step, PipLock):
        packages = lock.packages_by_pin
        return bool(step.projects) or any(
            not isinstance(packages[pin].artifact, WheelArtifact) for pin in step.packages
        )
    return False
