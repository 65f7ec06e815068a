"""What the store says of environments: `environments/<name>/record.json`, whose `base` and `layers` pruning keeps.

An environment of the sandbox has its own name there, one of podman or docker the engine's too: `<name>.podman`. Names
of environments end with a hyphen and digits, so none is taken for another's.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.documents import read_json
from klock.errors import StoreError
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.lockfile.model import Lockfile
    from klock.store import Store
    from klock.targets import Target

__all__ = [
    "Note",
    "folder_of",
    "has_record",
    "names_in",
    "parts_of_all",
    "read_note",
    "service_log",
    "synced_lock",
    "write_note",
]

_UNSUFFIXED: Final = "sandbox"
_NOTE: Final = "note.json"
_TEXT: Final = "synced.lock"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a sync left beside the record: which lockfile it was, for which target, and when (seconds since 1970)."""

    lockfile: Path
    target: str
    synced: float


def write_note(store: Store, place: str, name: str, note: Note, *, text: bytes) -> None:
    """Leaves the note, and the lockfile's text, beside the record of an environment; does nothing where there is none.

    Both are for people only, so a folder that cannot be written is not an error.
    """
    import json

    folder = folder_of(store, place, name)
    content = {"lockfile": os.fspath(note.lockfile), "target": note.target, "synced": note.synced}
    with contextlib.suppress(OSError, StoreError):
        for file, data in ((_TEXT, text), (_NOTE, json.dumps(content).encode("utf-8", "surrogateescape"))):
            if folder.is_dir():
                with store.temporary_file() as temporary:
                    temporary.write_bytes(data)
                    temporary.replace(folder / file)


def read_note(store: Store, place: str, name: str) -> Note | None:
    """None where there is none."""
    try:
        found = read_json((folder_of(store, place, name) / _NOTE).read_bytes(), any_text=True)
        return Note(lockfile=Path(found["lockfile"]), target=str(found["target"]), synced=float(found["synced"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def service_log(store: Store, place: str, name: str) -> Path:
    """What the services of an environment printed beside the last command that had some."""
    return folder_of(store, place, name) / "services.log"


def synced_lock(store: Store, place: str, name: str, target: Target, fingerprint: Digest) -> Lockfile | None:
    """The lockfile that an environment was synced from, with that target alone; None where its text is gone, or is not
    that of `fingerprint`. Raises LockfileError when it cannot be read."""
    from klock.lockfile import read
    from klock.values import replace

    lockfile = read(folder_of(store, place, name) / _TEXT)
    locked = None if lockfile is None else lockfile.for_target(target)
    if lockfile is None or locked is None or locked.fingerprint != fingerprint:
        return None
    return replace(lockfile, targets=(locked,))


def _suffix(place: str) -> str:
    return "" if place == _UNSUFFIXED else f".{place}"
