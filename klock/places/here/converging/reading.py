"""What a step changed in a running container, read as the layer it would be over the locked base and layers alone.

A container has more in it than that: folders that a mount or a program made, and what programs write while a step runs.
What of it matters is told by the locked digest: a reading that has it is the locked layer, whatever else is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from klock.digests import Digest
from klock.layers.manifest import Entry, Manifest
from klock.places.here.step_paths import StepPaths
from klock.places.here.tree import Tree
from klock.values import dataclass
from klock.workshop.protocol import Layer

__all__ = ["Surroundings", "read_as"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a step was done: the root `before` it and `now`, after it.

    `own` are the step's paths, where they are known, and `anchors` the paths at and below which it may have found
    things that were there already. `left` are folders that an earlier step had made: others have files in them, so they
    stayed when it was taken back.
    """

    before: Tree
    now: Tree
    own: StepPaths | None
    anchors: Sequence[str]
    left: Sequence[str]


def read_as(
    locked: Digest, found: Layer, where: Surroundings, as_locked: Callable[[Manifest], Manifest] = lambda m: m
) -> Layer:
    """The reading of `found` whose digest is `locked`; without one, what is the step's own of it.

    `as_locked` gives of what a step made here what is locked of it: the result's digest is that's.
    """
    readings = (Layer(digest=as_locked(read).digest, manifest=read) for read in _readings(found.manifest, where))
    first = next(readings)
    if first.digest == locked:
        return first
    return next((layer for layer in readings if layer.digest == locked), first)


def _readings(found: Manifest, where: Surroundings) -> Iterator[Manifest]:
    own = where.own
    alone = found if own is None else Manifest(entry for path, entry in found.items() if own.has(path))
    for changed in [alone] if len(alone) == len(found) else [alone, found]:
        manifest = Manifest([*changed.values(), *_left_above(changed, where)])
        yield manifest
        for present in _present(manifest, where):
            yield Manifest([*manifest.values(), *present])


def _left_above(manifest: Manifest, where: Surroundings) -> list[Entry]:
    return [
        where.before[path].entry
        for path in where.left
        if path in where.before and path not in manifest and any(name.startswith(f"{path}/") for name in manifest)
    ]


def _present(manifest: Manifest, where: Surroundings) -> Iterator[list[Entry]]:
    """What was there before the step just as the step makes it: below an anchor, or from a folder above it on.

    A layer has all of that or nothing: where a folder is new, all that is in it is new.
    """
    paths = {path for anchor in where.anchors for path in _down_to(anchor)}
    if where.own is not None:
        paths |= where.own.exact | where.own.above
    same = [
        seen.entry
        for path in paths
        if path not in manifest and (seen := where.before.get(path)) and where.now.entry(path) == seen.entry
    ]
    tried = {frozenset[str]()}
    for anchor in where.anchors:
        inside = [entry for entry in same if entry.path.startswith(f"{anchor}/")]
        tops = reversed(_down_to(anchor))
        for chosen in (inside, *([e for e in same if f"{e.path}/".startswith(f"{top}/")] for top in tops)):
            names = frozenset(entry.path for entry in chosen)
            if names not in tried:
                tried.add(names)
                yield chosen


def _down_to(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
