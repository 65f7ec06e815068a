"""The digest of an image in the lockfile: what a registry calls it, known before anybody pushes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from klock.errors import EngineError
from klock.layers.compression import COMPRESSIONS
from klock.lockfile.model import Lockfile, OciImage, TargetLock
from klock.registry.made import make_image
from klock.targets import Target

if TYPE_CHECKING:
    from klock.steps.context import Context

__all__ = ["with_image_digests"]


def with_image_digests(lockfile: Lockfile, context: Context) -> Lockfile:
    """The lockfile with the image digest of each target whose layers can be made here. Others keep what they have, and
    that is said. Raises KlockError when there is none to be had."""
    here = Target.of_this_machine().platform
    targets = tuple(
        _with_digest(target, context) if target.target.platform == here else target for target in lockfile.targets
    )
    missing = [str(target.target) for target in targets if target.oci_image is None]
    if len(missing) == len(targets):
        raise EngineError(
            f"the layers of {', '.join(missing)} are not made on this machine, so no image digest can be locked",
            hint="run `klock lock --image-digest` on a machine of that platform",
        )
    if missing:
        context.progress.note(
            f"no image digest for {', '.join(missing)}: run `klock lock --image-digest` on a machine of that platform"
        )
    return replace(lockfile, targets=targets)


def _with_digest(target: TargetLock, context: Context) -> TargetLock:
    compression = COMPRESSIONS[0]
    image = make_image(target, context, compression)
    oci_image = OciImage(digest=image.digest, size=len(image.manifest), compression=compression.rule)
    return replace(target, oci_image=oci_image)
