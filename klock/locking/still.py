"""Chooses where a target is locked: in the workshop, or without running anything.

An image of a base from a registry, wheels, files and variables is locked for any platform on any machine. What else an
image has must run, and that is said before anything is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from klock.errors import EngineError, ImageError
from klock.image.builder import Image
from klock.image.steps import DebianBase
from klock.lockfile.model import BaseLock, OciLock
from klock.steps import kind_of_image_step
from klock.steps.context import Context
from klock.targets import Target
from klock.workshop.protocol import BaseLayer

if TYPE_CHECKING:
    from klock.workshop.still import StillWorkshop

__all__ = ["bring_archives_of", "in_workshop_for", "refuse_what_must_run"]


def in_workshop_for(target: Target, image: Image, context: Context, *, known: BaseLock | None = None) -> Context:
    """The context in which `target` is locked. Where `known`, its base, is unpacked here already, the sandbox is not
    tried: it worked then."""
    here = Target.of_this_machine()
    if target.platform != here.platform:
        why = f"programs of {target.platform} do not run on this machine, which is {here.platform}"
        hint = f"lock {target} on a machine that is {target.platform}"
        return replace(context, workshop=_still(context, why, hint))
    if not _must_run(image) and (known is None or not context.workshop.by_notes.has_base(known.id)):
        try:
            context.workshop.check()
        except EngineError as error:
            return replace(context, workshop=_still(context, error.message, error.hint or ""))
    return context


def _still(context: Context, why: str, hint: str) -> StillWorkshop:
    from klock.workshop.still import StillWorkshop

    return StillWorkshop(context.store, why=why, hint=hint)


def bring_archives_of(base: BaseLock, context: Context) -> None:
    """Lets a workshop in which nothing runs fetch the archives of `base` when it has to read a file in them."""
    from klock.workshop.still import StillWorkshop

    workshop = context.workshop
    if not isinstance(workshop, StillWorkshop) or not isinstance(base, OciLock):
        return
    from klock.bases.images import fetch_layers

    def bring(wanted: str) -> Sequence[BaseLayer]:
        assert wanted == base.id
        return fetch_layers(
            base,
            root=context.root,
            mirrors=context.mirrors,
            store=context.store,
            offline=context.offline,
            progress=context.progress,
        )

    workshop.bring = bring


def refuse_what_must_run(image: Image, context: Context) -> None:
    """Raises EngineError or ImageError, which names the place, for what cannot be locked where nothing runs."""
    workshop = context.workshop
    if not workshop.is_still:
        if _must_run(image):
            workshop.check()
        return
    from klock.workshop.still import StillWorkshop

    assert isinstance(workshop, StillWorkshop)
    for position, step in enumerate(image.steps):
        kind = kind_of_image_step(step)
        if kind.runs_commands:
            where = context.locations[position] if position < len(context.locations) else None
            place = f" ({where})" if where else ""
            raise ImageError(f"step {position + 1}{place}: {kind.method} must run: {workshop.why}", hint=workshop.hint)
    if isinstance(image.base, DebianBase):
        where = "" if image.base.location is None else f"{image.base.location.below(context.root)}: "
        raise ImageError(f"{where}a base of Debian packages must be made: {workshop.why}", hint=workshop.hint)


def _must_run(image: Image) -> bool:
    stages = any(map(_must_run, map(Image.of_stage, image.stages)))
    steps = any(kind_of_image_step(step).runs_commands for step in image.steps)
    return stages or steps or isinstance(image.base, DebianBase)
