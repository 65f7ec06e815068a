"""Engines: where environments live. Each is imported when it is used.

- `sandbox`: the embedded one, which needs no daemon. It also makes the layers of every other engine, so that there is
  one place where steps run, and one set of bytes.
- `podman`, `docker`: images and containers of those layers, through the Docker-compatible API.
- `here`: the container that klock itself runs in, whose root becomes the environment (`klock.places.here.converging`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klock.errors import KlockError

if TYPE_CHECKING:
    from klock.store import Store
    from klock.workshop.protocol import Engine

__all__ = ["DEFAULT", "ENGINES", "engine_with", "environment_of", "make_engine", "note_of"]

ENGINES: Final = ("sandbox", "podman", "docker", "here")
DEFAULT: Final = "sandbox"
"""What is taken when nobody names another and no other holds the environment: it runs wherever layers can be made."""


def note_of(engine: str, environment: str) -> str:
    """What the store calls its note of an environment on podman or docker.

    Names of environments end with a hyphen and digits (`Session.environment_name`), so none is taken for a note.
    """
    return f"{environment}.{engine}"


def environment_of(note: str) -> str:
    """The environment's name in what `note_of` gave."""
    return note.rpartition(".")[0]


def engine_with(environment: str, store: Store) -> str:
    """The engine that holds the environment of this name, or else the default one.

    `here` is never found: it changes the root it runs in, so somebody has to name it.
    """
    if store.environment_path(environment).exists():
        return "sandbox"
    noted = (name for name in ("podman", "docker") if store.environment_path(note_of(name, environment)).exists())
    return next(noted, DEFAULT)


def make_engine(name: str, store: Store) -> Engine:
    """The engine of this name; whether it can run here, its `check` says. Raises KlockError for another name."""
    match name:
        case "sandbox":
            from klock.workshop import SandboxWorkshop

            return SandboxWorkshop(store)
        case "podman" | "docker":
            from klock.places.containers import ContainerEngine

            return ContainerEngine(name, store)
        case "here":
            from klock.places.here import HereEngine

            return HereEngine(store)
    raise KlockError(f"there is no engine {name!r}", hint=f"the engines are {', '.join(ENGINES)}")
