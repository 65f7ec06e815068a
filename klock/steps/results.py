"""What steps made on this machine: for a step's key, the digests of the layers that running it gave.

A lockfile says that a step makes a layer. That the layer is in the store does not prove it: the lockfile may have been
merged or edited, and the layer be another step's. So a layer is reused only where its step made it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from klock.digests import Digest
from klock.store import Store

__all__ = ["is_refuted", "layers_made_by", "proven_layers", "record_file_of", "remember_layer", "remember_proof"]

_KIND: Final = "made"
_PROVEN: Final = "proven"
_MOST: Final = 20


def layers_made_by(key: Digest, store: Store) -> tuple[Digest, ...]:
    """The layers that the step with this key made, the latest last: more than one if it does not repeat."""
    record = store.read_record(_KIND, key)
    return tuple(digest for digest in record if isinstance(digest, str)) if isinstance(record, list) else ()


def is_refuted(key: Digest, layer: Digest, store: Store) -> bool:
    """Whether the step with this key made other layers: its inputs changed, or the lockfile was merged."""
    made = layers_made_by(key, store)
    return bool(made) and layer not in made


def record_file_of(key: Digest, store: Store) -> Path:
    """The file that `layers_made_by` reads."""
    return store.record_path(_KIND, key)


def remember_layer(key: Digest, layer: Digest, store: Store) -> None:
    before = [digest for digest in layers_made_by(key, store) if digest != layer]
    store.write_record(_KIND, key, [*before, layer][-_MOST:])


def proven_layers(key: Digest, store: Store) -> tuple[Digest, ...]:
    """The layer that the step with this key was seen to make twice, if it was."""
    record = store.read_record(_PROVEN, key)
    return (record,) if isinstance(record, str) else ()


def remember_proof(key: Digest, layer: Digest, store: Store) -> None:
    store.write_record(_PROVEN, key, layer)
