"""Predicts which paths of the container's root a step is going to write, and which of them it owns."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from klock.layers.manifest import Manifest
from klock.layers.rewriting.bytecode import source_of
from klock.lockfile.model import kept_layer_of
from klock.places.here.contents import Here
from klock.places.here.step_paths import StepPaths
from klock.places.here.tree import Tree
from klock.places.here.workspace import HereWorkspace
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.kind import Writes
from klock.store import Store
from klock.values import dataclass

__all__ = ["System", "anchors_of", "kept_archive", "paths_of_step", "paths_of_writes", "resolved"]


@dataclass(frozen=True)
class System:
    """`klock.steps.kind.RunningSystem`: the container's root as `before` says."""

    here: Here
    before: Tree

    @cached_property
    def manifest(self) -> Manifest:
        return self.before.manifest

    def open(self) -> AbstractContextManager[HereWorkspace]:
        return self.here.root.open(self.before)


def paths_of_step(at: StepAt[Any], *, before: Tree, here: Here, context: Context) -> tuple[StepPaths | None, bool]:
    """The paths that are a step's own, and whether it writes no others. None for a step that may write anything.

    What the step installs is in the store, and so is the layer that it keeps.
    """
    if (archive := kept_archive(at, context.store)) is not None:
        return StepPaths(resolved(f"/{path}" for path in here.root.paths_in(archive))), True
    writes = kind_of(at.step).writes(at, System(here, before), context)
    return (None, False) if writes is None else (paths_of_writes(writes, before), writes.is_all)


def paths_of_writes(writes: Writes, before: Tree) -> StepPaths:
    """What is foreseen, as paths of the root that lead through no symlink."""
    written = resolved(writes.paths)
    bytecode: list[str] = []
    if writes.replaces_bytecode:
        bytecode = [path for path in before if (source := source_of(path)) is not None and source in written]
    whole, roots = ([os.path.realpath(path).strip("/") for path in paths] for paths in (writes.whole, writes.roots))
    return StepPaths([*written, *bytecode], whole=whole, roots=roots)


def kept_archive(at: StepAt[Any], store: Store) -> Path | None:
    """Of the layer that a step keeps; None where it is not in the store, and for a step that keeps none."""
    kept = kept_layer_of(at.step)
    return None if kept is None else store.find_blob(f"sha256:{kept.sha256}")


def anchors_of(at: StepAt[Any], own: StepPaths | None) -> list[str]:
    """The paths below which a step may find what it makes: engines make a mount's folders, and programs theirs.

    The image's working directory is one: the first command that needs it makes it, but in a container it is there.
    """
    found = [] if own is None else [*own.roots]
    found += [os.path.realpath(path) for path in kind_of(at.step).anchors(at.step)]
    return [path for path in (path.strip("/") for path in (*found, at.before.working_dir)) if path]


def resolved(paths: Iterable[str]) -> set[str]:
    """Where what is written to absolute paths goes, as a manifest's paths: a symlink at the end is replaced."""
    real = cache(os.path.realpath)
    split = (path.rstrip("/").rpartition("/") for path in paths)
    return {f"{real(above or '/')}/{name}".strip("/") for above, _, name in split}
