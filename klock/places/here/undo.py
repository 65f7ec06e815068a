"""Taking a step back: what it added goes, what it replaced or removed is there again, to the byte."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from klock.layers.manifest import Kind, Manifest
from klock.layers.rewriting.bytecode import source_of
from klock.layers.scan import text_of
from klock.places.here.materials import kept_file, put, remove
from klock.places.here.mounts import refuse_mounted
from klock.places.here.step_paths import StepPaths
from klock.places.here.tree import Tree, on_disk, see

__all__ = ["difference_in", "difference_of", "lost", "take_back"]


def _difference(before: Tree, now: Tree) -> tuple[Tree, list[str]]:
    """What was changed or removed, as it was before, and the paths that were added."""
    was = Tree({path: seen for path, seen in before.items() if now.entry(path) != seen.entry})
    return was, [path for path in now if path not in before]


def difference_of(own: StepPaths, before: Tree, now: Tree) -> tuple[Tree, list[str]]:
    """Which changes a step made: programs may have changed other paths beside it, and after it was killed."""
    was, added = _difference(before, now)
    ours = {path: seen for path, seen in was.items() if path in own.exact or (path not in now and own.has(path))}
    return Tree(ours), [path for path in added if own.has(path)]


def difference_in(layer: Manifest, before: Tree, now: Tree) -> tuple[Tree, list[str]]:
    """Which changes are in the layer that a step made, with the content of folders that are gone."""
    was, added = _difference(before, now)
    ours = {path: seen for path, seen in was.items() if _is_changed_by(layer, path)}
    return Tree(ours), [path for path in added if path in layer]


def _is_changed_by(layer: Manifest, path: str) -> bool:
    if path in layer:
        return True
    while path := path.rpartition("/")[0]:
        if path in layer and layer[path].kind is not Kind.FOLDER:
            return True
    return False


def lost(was: Tree, kept: Path) -> list[str]:
    """The paths that cannot be brought back, as their bytes were not kept."""
    return [p for p, seen in was.items() if seen.entry.kind is Kind.FILE and not kept_file(seen.entry, kept).exists()]


def take_back(was: Tree, added: Sequence[str], kept: Path) -> None:
    """Removes `added` (folders only when nothing else is in them) and brings `was` back. A second call changes nothing.

    With a source goes the bytecode that Python made of it since: all sources of layers have one time, so Python could
    take it for that of another source of the same size. Where a folder above has become a symlink nothing is done: what
    it leads to was not the step's. Raises EngineError, before anything else, when something is mounted there now.
    """
    refuse_mounted([*added, *was], "a step cannot be taken back")
    for path in sorted(added, key=lambda path: path.count("/"), reverse=True):
        if _is_behind_link(path):
            continue
        seen = see(path)
        if seen is not None and seen.entry.kind is Kind.FOLDER:
            with suppress(OSError):
                os.rmdir(on_disk(path))
        elif path not in was:
            remove(path)
            if path.endswith(".py"):
                _remove_bytecode(path)
    for path in sorted(was, key=lambda path: path.count("/")):
        if _is_behind_link(path):
            continue
        seen = was[path]
        source = kept_file(seen.entry, kept) if seen.entry.kind is Kind.FILE else None
        put(seen.entry, source=source, modified=seen.modified)


def _is_behind_link(path: str) -> bool:
    above = os.path.dirname(on_disk(path))
    return os.path.realpath(above) != above


def _remove_bytecode(source: str) -> None:
    above, slash, _ = source.rpartition("/")
    folder = f"{above}{slash}__pycache__"
    with suppress(OSError):
        for name in os.listdir(on_disk(folder)):
            path = f"{folder}/{text_of(name)}"
            if source_of(path) == source:
                remove(path)
        os.rmdir(on_disk(folder))
