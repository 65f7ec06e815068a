"""Places: where environments live. Each is imported when it is used.

- `sandbox`: in the store itself. It needs no daemon.
- `podman`, `docker`: images and containers of the layers, through the Docker-compatible API.
- `here`: the container that klock itself runs in, whose root becomes the environment.

The workshop makes the layers of all of them, so that there is one room where steps run, and one set of bytes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from klock.errors import KlockError
from klock.places.records import has_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from klock.places.protocol import Place
    from klock.store import Store
    from klock.workshop import SandboxWorkshop

__all__ = ["DEFAULT", "PLACES", "converges", "make_place", "place_with", "places_in_use", "starter"]

PLACES: Final = ("sandbox", "podman", "docker", "here")
DEFAULT: Final = "sandbox"
"""The place when nobody names one and no other has the environment: it runs wherever layers can be made."""


def place_with(environment: str, store: Store) -> str:
    """The place that holds the environment of this name, or else the default one.

    `here` is never found: it changes the root it runs in, so somebody has to name it.
    """
    return next((name for name in PLACES if has_record(store, name, environment)), DEFAULT)


def converges(name: str | None) -> bool:
    """Whether the place of this name changes a running system step by step; None is the default place."""
    return name == "here"


def make_place(name: str, workshop: SandboxWorkshop, store: Store, *, ca_bundle: Path | None = None) -> Place:
    """The place of this name; whether it can run here, its `check` says. Raises KlockError for another name.

    `ca_bundle`: certificates that commands with the host's network trust.
    """
    match name:
        case "sandbox":
            from klock.places.sandbox import SandboxPlace

            return SandboxPlace(workshop, store)
        case "podman" | "docker":
            from klock.places.containers import ContainerPlace

            return ContainerPlace(name, workshop, store, ca_bundle=ca_bundle)
        case "here":
            from klock.places.here import HerePlace

            return HerePlace(workshop, store, ca_bundle=ca_bundle)
    raise KlockError(f"there is no engine {name!r}", hint=f"the engines are {', '.join(PLACES)}")


def starter(launch: str) -> Callable[[Sequence[str]], int] | None:
    """What starts a command from the text of a place's `launch`, and returns its status; None where it cannot."""
    # Only this place gives launches.
    from klock.places.sandbox.launch import may_start, start

    return partial(start, launch) if may_start(launch) else None


def places_in_use(workshop: SandboxWorkshop, store: Store) -> list[Place]:
    """The places in which the store knows of environments."""
    from klock.places.records import names_in

    return [make_place(name, workshop, store) for name in PLACES if names_in(store, name)]
