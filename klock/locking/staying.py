"""Whether a lockfile stays as it is: what `klock lock` finds out first, as most often it has no more to do.

The image is drafted once for each target and compared, by the same rules as `klock check` has. Nothing is imported for
it that makes a lockfile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from klock.errors import KlockError
from klock.image.builder import Image
from klock.image.steps import Base, ImageStage
from klock.layers import NORMALISATION
from klock.lockfile.model import (
    DEBIAN_RECIPE,
    BaseLock,
    DebianLock,
    ImageLock,
    Lockfile,
    StepLock,
    TargetLock,
    layer_of,
)
from klock.locking.draft import as_draft, base_agrees, draft_image, draft_steps
from klock.secrets.credential_files import Treatment
from klock.steps.cache_keys import cache_keys
from klock.steps.results import is_refuted
from klock.store import Store
from klock.targets import Target

__all__ = ["notes_if_unchanged", "steps_stay"]


def notes_if_unchanged(
    lock: Lockfile,
    image: Image,
    targets: Sequence[Target],
    *,
    root: Path,
    environ: Mapping[str, str],
    store: Store,
    credential_files: Treatment = Treatment.WARN,
    exclude_newer: str | None = None,
    keep_base: bool = False,
) -> list[str] | None:
    """What the user should know of the image's files, if locking it for `targets` gives `lock` again; else None.

    `root` is the image file's folder, `exclude_newer` the moment that was asked for. An image in which something is
    wrong has changed: locking says what it is.
    """
    if (
        image.base is None
        or lock.normalisation != NORMALISATION
        or tuple(t.target for t in lock.targets) != (*targets,)
    ):
        return None

    def notes_of(locked: TargetLock) -> list[str] | None:
        given = image._for_platform(locked.target.platform)
        if [stage.name for stage in locked.stages] != [stage.name for stage in given.stages]:
            return None
        notes: list[str] = []
        parts: list[tuple[ImageStage | Image, TargetLock]] = [
            *zip(given.stages, locked.locks_of_stages.values(), strict=True),
            (given, locked),
        ]
        for definition, part in parts:
            drafts = draft_steps(
                definition.steps,
                root=root,
                base=part.base,
                target=locked.target,
                environ=environ,
                store=store,
                credential_files=credential_files,
                notes=notes,
            )
            assert definition.base is not None
            if not _base_stays(definition.base, part.base) or not steps_stay(
                part, drafts, image=lock.image, store=store, keep_base=keep_base
            ):
                return None
        return notes

    notes: list[list[str]] = []
    try:
        wanted = replace(draft_image(image, environ), exclude_newer=exclude_newer or lock.image.exclude_newer)
        if wanted != lock.image:
            return None
        for locked in lock.targets:
            if (found := notes_of(locked)) is None:
                return None
            notes.append(found)
    except KlockError:
        return None
    # Each target has the same to be said, once.
    return notes[0] if notes else []


def steps_stay(
    lock: TargetLock, drafts: Sequence[StepLock], *, image: ImageLock, store: Store, keep_base: bool
) -> bool:
    """Whether a target's steps are those that were drafted, and nothing that became known since speaks against them.

    `keep_base`: nothing may have replaced a package of the base.
    """
    if [as_draft(step) for step in lock.steps] != [*drafts]:
        return False
    if keep_base and any(package.replaces is not None for package in lock.packages):
        return False
    keys = cache_keys(lock, image=image, normalisation=NORMALISATION)
    return not any(
        key is not None and (layer := layer_of(step)) is not None and is_refuted(key, layer.digest, store)
        for key, step in zip(keys, lock.steps, strict=True)
    )


def _base_stays(base: Base, locked: BaseLock) -> bool:
    is_of_old_recipe = isinstance(locked, DebianLock) and locked.recipe != DEBIAN_RECIPE
    return base_agrees(base, locked) and not is_of_old_recipe
