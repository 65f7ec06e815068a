"""The steps of a lockfile that was not finished, because a later step failed: they need not run again.

Of a shell step nobody knows what it fetches before it runs, so what it made is found by the key that it had then. That
holds until the lockfile is written: whoever locks again after that asks for what the network has now.
"""

from __future__ import annotations

import os
from typing import TypeVar

from klock.digests import Digest, digest_of_bytes, hex_of
from klock.errors import LockfileError
from klock.lockfile.codec import decode, encode
from klock.lockfile.model import StepLock, kept_layer_of, layer_of
from klock.steps.context import Context
from klock.values import dataclass

__all__ = ["Unfinished"]

L = TypeVar("L", bound=StepLock)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Of the image in the context's folder, in the context's store."""

    context: Context

    def find(self, key: Digest, step: L) -> L | None:
        """The step that had this key before it ran, with the layer that it made, if that is here."""
        record = self.context.store.read_record(self._kind, key)
        if record is None:
            return None
        try:
            found = decode(type(step), record, "step")
        except LockfileError:
            return None
        layer = layer_of(found)
        is_here = layer is not None and self.context.workshop.has_layer(layer.digest)
        return found if is_here or kept_layer_of(found) is not None else None

    def add(self, key: Digest, step: StepLock) -> None:
        self.context.store.write_record(self._kind, key, encode(step))

    def forget(self) -> None:
        """The lockfile is finished."""
        self.context.store.remove_records(self._kind)

    @property
    def _kind(self) -> str:
        return f"unfinished-{hex_of(digest_of_bytes(os.fsencode(self.context.root)))[:16]}"
