"""What the store says of environments: `environments/<name>/record.json`, whose `base` and `layers` pruning keeps.

An environment of the sandbox has its own name there, one of podman or docker the engine's too: `<name>.podman`. Names
of environments end with a hyphen and digits, so none is taken for another's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.documents import read_json

if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.store import Store

__all__ = ["folder_of", "has_record", "names_in", "parts_of_all"]

_UNSUFFIXED: Final = "sandbox"


def folder_of(store: Store, place: str, name: str) -> Path:
    """Where the store keeps what it knows of an environment."""
    return store.environment_path(name + _suffix(place))


def has_record(store: Store, place: str, name: str) -> bool:
    return folder_of(store, place, name).exists()


def names_in(store: Store, place: str) -> list[str]:
    """The names of the environments in a place that the store knows of, sorted."""
    suffix, names = _suffix(place), store.environment_names()
    if not suffix:
        return [name for name in names if "." not in name.rpartition("-")[2]]
    return [name.removesuffix(suffix) for name in names if name.endswith(suffix)]


def parts_of_all(store: Store) -> set[Digest]:
    """The digests of the bases and layers that environments are made of.

    Raises OSError for a record that is there and cannot be read: nobody may take its parts for unused.
    """
    found: set[Digest] = set()
    for name in store.environment_names():
        try:
            record = read_json((store.environment_path(name) / "record.json").read_bytes(), any_text=True)
            found |= {record["base"], *record["layers"]}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue
    return found


def _suffix(place: str) -> str:
    return "" if place == _UNSUFFIXED else f".{place}"
