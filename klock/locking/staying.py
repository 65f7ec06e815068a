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
from klock.layers import NORMALISATION
from klock.lockfile.model import DEBIAN_RECIPE, DebianLock, ImageLock, Lockfile, TargetLock, layer_of
from klock.locking.draft import as_draft, base_agrees, draft_image, draft_steps
from klock.secrets.credential_files import Treatment
from klock.steps.cache_keys import cache_keys
from klock.steps.results import is_refuted
from klock.store import Store
from klock.targets import Target

__all__ = ["notes_if_unchanged"]


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
    notes: list[str] = []
    as_given = image
    try:
        wanted = replace(draft_image(image, environ), exclude_newer=exclude_newer or lock.image.exclude_newer)
        if wanted != lock.image:
            return None
        for number, locked in enumerate(lock.targets):
            if keep_base and any(package.replaces is not None for package in locked.packages):
                return None
            found: list[str] = []
            image = as_given._for_platform(locked.target.platform)
            assert image.base is not None
            for stage in (*image.stages, None):
                part = locked if stage is None else locked.locks_of_stages.get(stage.name)
                if part is None:
                    return None
                of_part: list[str] = []
                drafts = draft_steps(
                    image.steps if stage is None else stage.steps,
                    root=root,
                    base=part.base,
                    target=locked.target,
                    environ=environ,
                    store=store,
                    credential_files=credential_files,
                    notes=of_part,
                )
                found += of_part
                base = image.base if stage is None else stage.base
                if not base_agrees(base, part.base) or [as_draft(step) for step in part.steps] != drafts:
                    return None
                if isinstance(part.base, DebianLock) and part.base.recipe != DEBIAN_RECIPE:
                    return None
                if _has_a_refuted_step(part, lock.image, store):
                    return None
            if [stage.name for stage in locked.stages] != [stage.name for stage in image.stages]:
                return None
            notes += found if number == 0 else []
    except KlockError:
        return None
    return notes


def _has_a_refuted_step(lock: TargetLock, image: ImageLock, store: Store) -> bool:
    keys = cache_keys(lock, image=image, normalisation=NORMALISATION)
    return any(
        key is not None and (layer := layer_of(step)) is not None and is_refuted(key, layer.digest, store)
        for key, step in zip(keys, lock.steps, strict=True)
    )
