"""A locked image's name in a registry, by its digest: what manifests of others name to have these bytes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klock.digests import Digest
from klock.errors import KlockError
from klock.layers.compression import compression_named
from klock.oci.reference import Reference
from klock.registry.made import make_image
from klock.registry.verify import target_of

if TYPE_CHECKING:
    from klock.lockfile.model import Lockfile, TargetLock
    from klock.steps.context import Context

__all__ = ["name_by_digest"]


def name_by_digest(written: str, lock: Lockfile, locked: TargetLock, context: Context) -> str:
    """`REGISTRY/NAME` with the digest of the image of `locked`, one of the targets of `lock`.

    The digest is the lockfile's, or that of the image as it is pushed with gzip, which is made for that. `written` may
    have the digest that `klock push` printed, which must be the target's. No registry is asked. Raises ImageError for
    what is not a name, KlockError for a digest of something else, EngineError where the image cannot be made here.
    """
    reference = Reference.parse_in_registry(written)
    name = f"{reference.registry}/{reference.repository}"
    if reference.digest is None:
        return f"{name}@{_digest_of(locked, context)}"
    found = target_of(reference.digest, lock, context)
    if found is None and reference.digest != _digest_of(locked, context):
        raise KlockError(
            f"{written} is not the image of this lockfile",
            hint="use the name that `klock push` prints; `klock verify` says how that image differs",
        )
    if found is not None and found.target != locked.target:
        raise KlockError(f"{written} is the image of {found.target}", hint=f"choose it: --target {found.target}")
    return f"{name}@{reference.digest}"


def _digest_of(locked: TargetLock, context: Context) -> Digest:
    if locked.oci_image is not None:
        return locked.oci_image.digest
    try:
        return make_image(locked, context, compression_named("gzip")).digest
    except KlockError as error:
        raise KlockError(
            f"the digest of the image of {locked.target} is not known here: {error.message}",
            hint="lock it (`klock lock --image-digest`, on a machine of that platform), or name the "
            "image as `klock push` printed it: REGISTRY/NAME@sha256:...",
        ) from error
