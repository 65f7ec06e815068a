"""What the places have in common whose environments are a base and layers that the workshop made."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from klock.errors import StoreError
from klock.places.protocol import Applied, ImageConfig, Place

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.layers.manifest import Manifest
    from klock.lockfile.model import TargetLock
    from klock.replay.goal import Goal
    from klock.steps.context import Context
    from klock.workshop.protocol import BaseLayer, Workshop

__all__ = ["apply_layers", "image_config", "layer_in_store", "locked_files", "why_not_comparable", "why_not_in_store"]


def apply_layers(place: Place, goal: Goal, context: Context, *, replace: Callable[[], None]) -> Applied:
    """Carries out the plan of `place`; `replace` makes its environment be base and layers, which are all here then."""
    with context.store.lock(f"environment-{goal.name}"):
        with context.progress.stage("look up the layers in the store"):
            plan = place.plan(goal)
        ran = 0
        if not plan.changes_nothing:
            from klock.replay import carry_out

            # Without an engine an environment is some folders of the store: nothing has to run for it.
            if place.has_containers or plan.makes_layers:
                place.check()
            ran = carry_out(plan, goal, context, replace=replace)
    return Applied(changed=not plan.changes_nothing, ran=ran)


def why_not_comparable(goal: Goal, record: Mapping[str, object] | None, workshop: Workshop) -> str | None:
    """Why an environment of this record has nothing to compare: hundreds of files would only say that it is another
    one. None where base and layers are all here."""
    if record is None:
        return "there is no environment yet: run `klock sync`"
    if record.get("fingerprint") != goal.lock.fingerprint:
        return "the environment was synced from another lockfile: run `klock sync`"
    return why_not_in_store(goal.lock, workshop)


def why_not_in_store(lock: TargetLock, workshop: Workshop) -> str | None:
    """What is missing to know what was locked."""
    if not workshop.has_base(lock.base.id):
        return "the base is not in the store: run `klock sync`"
    missing = next((digest for digest in lock.layers if not workshop.has_layer(digest)), None)
    return None if missing is None else f"the layer {missing} is not in the store: run `klock sync`"


def locked_files(lock: TargetLock, workshop: Workshop) -> tuple[Manifest, list[Manifest]]:
    """All that base and layers show together, and the layers, which are in the store."""
    from klock.layers.manifest import Manifest

    layers = [layer_in_store(digest, workshop) for digest in lock.layers]
    return functools.reduce(Manifest.apply, layers, workshop.base_manifest(lock.base.id)), layers


def layer_in_store(digest: Digest, workshop: Workshop) -> Manifest:
    """What a layer shows. Raises StoreError when it is not."""
    manifest = workshop.shown_manifest(digest)
    if manifest is None:
        raise StoreError(f"the layer {digest} is not in the store", hint="run `klock sync`")
    return manifest


def image_config(lock: TargetLock, archives: Sequence[BaseLayer] = ()) -> ImageConfig:
    """How containers of the environment start, without secrets."""
    return ImageConfig(
        architecture=lock.target.architecture,
        environment=lock.public_environment,
        working_dir=lock.written_working_dir,
        user=lock.user,
        settings=lock.settings,
        archives=tuple(archives),
    )
