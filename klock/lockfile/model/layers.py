"""What a step makes, and the variables that it sees."""

from __future__ import annotations

from klock.digests import Digest
from klock.values import dataclass

__all__ = [
    "KeptLayer",
    "LayerLock",
    "LockedVariable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLock:
    """A step's effect in canonical form. `files` counts entries, `size` is the bytes of all files.

    `sketch` (`klock.layers.sketch`) tells a replay that makes something else where it differs; the layers of local
    files, whose paths the lockfile has, do without.
    """

    digest: Digest
    files: int
    size: int
    sketch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLayer:
    """A layer that is an artifact itself, as its step does not repeat: the tar archive `Workshop.write_layer` makes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedVariable:
    """A variable as written and as expanded. In both, `${NAME}` for a NAME in `secrets` stands for a value that is
    taken from the process environment at replay."""

    name: str
    written: str
    value: str
    secrets: tuple[str, ...] = ()
