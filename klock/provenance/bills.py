"""Bills of materials by the name of their format."""

from __future__ import annotations

from klock.lockfile.model import TargetLock
from klock.provenance.ingredients import ingredients_of
from klock.store import Store

__all__ = ["bill_of"]


def bill_of(form: str, lock: TargetLock, store: Store, *, name: str) -> str:
    """The document of a target, whose image is called `name`. `form` is `cyclonedx` or `spdx`."""
    ingredients = ingredients_of(lock, store)
    if form == "cyclonedx":
        from klock.provenance.cyclonedx import to_cyclonedx

        return to_cyclonedx(lock, ingredients, name=name)
    from klock.provenance.spdx import to_spdx

    return to_spdx(lock, ingredients, name=name)
