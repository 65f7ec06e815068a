"""What a sync in place must not begin: a step without the sandbox or layer it needs, or with a mount in its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from klock.errors import EngineError, FetchError
from klock.layers.normalisation import is_left_out
from klock.lockfile.model import TargetLock, kept_layer_of
from klock.places.here.contents import Here
from klock.places.here.converging.owning import kept_archive, paths_of_step
from klock.places.here.converging.plan import InPlacePlan
from klock.places.here.mounts import refuse_mounted
from klock.places.here.tree import Tree
from klock.places.here.workspace import not_isolated
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.words import first_of

__all__ = ["refuse_what_cannot_run"]


def refuse_what_cannot_run(lock: TargetLock, plan: InPlacePlan, *, now: Tree, here: Here, context: Context) -> None:
    """Raises KlockError before anything is touched. Packages are fetched first: they say what their steps write."""
    for at in (context.at(lock, position) for position in plan.run):
        if kept_layer_of(at.step) is not None:
            if kept_archive(at, context.store) is None:
                raise FetchError(
                    f"{at.title}: its kept layer is not on this machine",
                    hint="get the layer from a vault: klock vault pull DIR",
                )
        elif kept := [path for path in kind_of(at.step).keep(at) if is_left_out(path.strip("/"))]:
            raise EngineError(
                f"{at.title}: it keeps {first_of(kept)}, where klock changes nothing in a running container",
                hint="make an image with `klock sync --engine podman`, or docker, and start that",
            )
        elif kind_of(at.step).needs_isolation(at) and (why := here.root.why_plain) is not None:
            raise not_isolated(at.title, why)
    for done in plan.back:
        if done.undo is not None:
            before, added = here.folder.read_undo(done.undo)
            refuse_mounted([*before, *added], f"{done.text} cannot be taken back")
    for at in (context.at(lock, position) for position in plan.run):
        if _can_be_foreseen(at, plan):
            if kind_of(at.step).can_be_taken_back:
                kind_of(at.step).fetch(at, context)
            own, _ = paths_of_step(at, before=now, here=here, context=context)
            refuse_mounted([] if own is None else own.exact, at.title)


def _can_be_foreseen(at: StepAt[Any], plan: InPlacePlan) -> bool:
    """Where packages go is asked of a Python that a step before may be about to bring."""
    if not kind_of(at.step).asks_python:
        return True
    earlier = (at.lock.steps[position] for position in plan.run if position < at.position)
    interpreter = at.lock.interpreter
    is_first = not any(kind_of(step).runs_commands for step in earlier)
    return is_first and interpreter is not None and Path(interpreter.path).is_file()
