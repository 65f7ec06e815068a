"""Locking: an image in, a lockfile out.

The image is drafted (`klock.locking.draft`), then completed in order: the base is resolved; each step whose key is in
the previous lockfile takes over its layer; any other step runs and its layer is recorded. All pip steps are resolved
together, before the first of them runs and in the environment it will find. A target whose programs do not run here is
locked without running any (`klock.locking.still`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

# To find out whether a lockfile is stale takes a module of this folder, and not all that makes one.
if TYPE_CHECKING:
    from klock.image.builder import Image
    from klock.lockfile.model import Lockfile, TargetLock
    from klock.steps.context import Context
    from klock.steps.locking import Upgrade
    from klock.targets import Target

__all__ = ["lapsing", "lock_image"]


def lock_image(
    image: Image,
    targets: Sequence[Target],
    *,
    previous: Lockfile | None,
    context: Context,
    upgrade: Upgrade | None = None,
) -> Lockfile:
    """Locks `image` for each target. What `previous` has and the image still asks for is kept, unless upgraded.

    Raises KlockError; the previous lockfile is the caller's to keep then.
    """

    from dataclasses import replace

    from klock.errors import ImageError, KlockError, TriggersFound
    from klock.layers import NORMALISATION
    from klock.lockfile.model import Lockfile
    from klock.locking.draft import context_of, draft_image
    from klock.locking.target import TargetLocker
    from klock.locking.unfinished import Unfinished
    from klock.steps.locking import Upgrade

    if image.base is None:
        raise ImageError("the image has no base", hint=_base_that_was_meant(image.name))
    rules_changed = previous is not None and previous.normalisation != NORMALISATION
    if previous is not None and rules_changed:
        context.progress.note(
            f"the lockfile has version {previous.normalisation} of the layer rules, klock now has {NORMALISATION}: "
            "every layer is made again, the base and packages keep their versions"
        )
    upgrade = upgrade or Upgrade()
    if upgrade.everything:
        Unfinished(context).forget()
    kept = previous.image.exclude_newer if previous and not upgrade.everything else None
    image_lock = replace(draft_image(image, context.environ), exclude_newer=context.exclude_newer or kept)
    images = [image._for_platform(target.platform) for target in targets]
    lockers = [
        TargetLocker(
            image=each,
            image_lock=image_lock,
            target=target,
            previous=previous.for_target(target) if previous else None,
            previous_image=previous.image if previous else None,
            rules_changed=rules_changed,
            context=context if each is image else context_of(each, context),
            upgrade=upgrade,
        )
        for target, each in zip(targets, images, strict=True)
    ]
    # What is wrong with one target is said before another one takes minutes.
    lockers = [locker.prepared() for locker in lockers]
    locked: list[TargetLock] = []
    errors = []
    for locker in lockers:
        try:
            locked.append(replace(locker, before=tuple(locked)).run())
        except TriggersFound:
            raise
        except KlockError as error:
            # What the others make stays in the store, for the next time.
            message = error.message if len(lockers) == 1 else f"{locker.target}: {error.message}"
            errors.append(type(error)(message, hint=error.hint))
    if errors:
        raise errors[0]
    Unfinished(context).forget()
    kept_digests = (_with_digest_of(previous, target, context) for target in locked)
    return Lockfile(image=image_lock, normalisation=NORMALISATION, targets=tuple(kept_digests))


def _with_digest_of(previous: Lockfile | None, target: TargetLock, context: Context) -> TargetLock:
    """The target with the digest that is locked of it as an OCI image, while it still is that image."""
    from dataclasses import replace

    before = previous.for_target(target.target) if previous else None
    if before is None or before.oci_image is None:
        return target
    if (before.base, before.fingerprint) == (target.base, target.fingerprint):
        return replace(target, oci_image=before.oci_image)
    context.progress.note(
        f"{target.target} is another image now, so its image digest was dropped: run `klock lock --image-digest`"
    )
    return target


def _base_that_was_meant(name: str | None) -> str:
    """The first argument of `Image` is its name: a reference there was meant for the base."""
    if name is not None and ("/" in name or ":" in name):
        return f"the first argument of Image is its name: write Image(image_id={name!r}) or from_docker({name!r})"
    return "start from klock.images, as in images.Python312().pip_install([...]), or call from_docker(...)"


def lapsing(lock: TargetLock) -> tuple[int, int]:
    """How many of the locked answers upstream will not give again once it moves on, and their bytes."""
    from klock.steps import kind_of

    steps = (*lock.steps, *(step for stage in lock.stages for step in stage.steps))
    sizes = {digest: size for step in steps for digest, size in kind_of(step).lapsing(step).items()}
    return len(sizes), sum(sizes.values())
