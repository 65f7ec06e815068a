"""A step's key: the digest of its own content and of all it builds on. Equal key, equal work: nothing to do.

What it builds on enters by *result* (the layers below, the variables so far), not by text, so a step that was changed
and makes the same layer as before costs the later ones nothing. Keys are computed, never stored in the lockfile.
"""

from __future__ import annotations

from klock.digests import Digest, digest_of_json
from klock.lockfile.model import ImageLock, StepLock, TargetLock, layer_of
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.values import replace

__all__ = ["cache_key", "cache_keys"]


def cache_keys(
    target: TargetLock, *, image: ImageLock, normalisation: int, drafted: bool = False
) -> list[Digest | None]:
    """The key of each step of `target`; None for steps that make no layer.

    With `drafted` it is the key that the step had before it ran, when nobody knew yet what it would fetch.
    """
    keys: list[Digest | None] = []
    for position, step in enumerate(target.steps):
        if layer_of(step) is None:
            keys.append(None)
            continue
        lock = target
        if drafted:
            lock = replace(target, steps=(*target.steps[:position], kind_of(step).before_it_ran(step)))
        at: StepAt[StepLock] = StepAt(lock=lock, position=position)
        keys.append(cache_key(at, image=image, normalisation=normalisation))
    return keys


def cache_key(at: StepAt[StepLock], *, image: ImageLock, normalisation: int) -> Digest:
    """The key of one step over what lies below it. The step's own layer takes no part."""
    base = at.lock.base
    below = [f"normalisation {normalisation}", base.id, at.before.user, *at.below]
    content = kind_of(at.step).content(at, python_path=image.python_path, install_cmd=image.install_cmd)
    return digest_of_json([below, content])
