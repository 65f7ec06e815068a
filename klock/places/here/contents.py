"""What should be in the container, and what is: klock's notes on one side, the root file system on the other."""

from __future__ import annotations

import functools

from klock.errors import EngineError
from klock.layers.manifest import Manifest
from klock.layers.normalisation import matcher
from klock.places.here.root import Root
from klock.places.here.state import State, StateFolder
from klock.values import dataclass
from klock.workshop.protocol import Workshop

__all__ = ["Here", "expected", "observed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The container that klock runs in: klock's notes of it, its root, and a workshop whose store may know layers."""

    folder: StateFolder
    root: Root
    workshop: Workshop

    @property
    def state(self) -> State:
        """Raises EngineError before the first sync."""
        state = self.folder.read()
        if state is None:
            raise EngineError("this container was not synced yet", hint="run `klock sync --here`")
        return state


def expected(here: Here) -> Manifest:
    """The base as the first sync found it, what steps made as their layers say, others' files as the last sync left
    them.

    A sync may have been forced over drift in what steps made, and changes nothing in a base that drifted: what it
    left there is no measure.
    """
    state, folder = here.state, here.folder
    left = folder.read_tree(state.tree).manifest
    base = left if state.first is None else folder.read_tree(state.first).manifest
    layers = [folder.layer(done.layer) for done in state.steps]
    steps = {path for layer in layers for path in layer}
    # What a step leaves out is in no layer, but it may have changed it.
    is_left_out = matcher([pattern for done in state.steps for pattern in done.leave_out])

    def is_others(path: str) -> bool:
        return path not in steps and (path not in base or is_left_out(path))

    locked = functools.reduce(Manifest.apply, layers, base)
    return Manifest(
        [
            *(entry for path, entry in locked.items() if not is_others(path)),
            *(entry for path, entry in left.items() if is_others(path)),
        ]
    )


def observed(here: Here, *, deep: bool = False) -> Manifest:
    """The files as they are. Those as the last sync left them, by size, times and inode, are read if `deep`."""
    return here.root.scan(None if deep else here.folder.read_tree(here.state.tree)).manifest
