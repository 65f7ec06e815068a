"""Distributions that somebody installed over locked ones, as `pip install` in a running container does.

What a step made can be taken back, but not what replaced it: a locked wheel that is installed next to the files of
another version comes out as another layer. So they are removed before the locked ones are installed anew.
"""

from __future__ import annotations

import contextlib
import os
import posixpath

from klock.drift import distributions_in
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.rewriting.bytecode import source_of
from klock.lockfile.model import StepLock
from klock.packages.records import paths_in_record
from klock.places.here.contents import Here
from klock.places.here.converging.journal import Journal
from klock.places.here.state import State
from klock.places.here.tree import Tree, on_disk
from klock.progress import Progress
from klock.replay.goal import Goal
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.values import dataclass

__all__ = ["Foreign", "foreign_distributions", "remove_foreign"]

_BESIDE_MODULES = ("bin", "share", "include", "etc")
"""Where a wheel puts what is not a module, below the folder that `lib` is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """`paths` are those of its files that neither a step nor the base has; the RECORD that names them is last.

    Of a distribution that was installed again in the same version they are what the other installer wrote besides.
    """

    name: str
    version: str
    paths: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.name} {self.version}, which was installed over the locked one"


def foreign_distributions(goal: Goal, here: Here, state: State, now: Tree, *, run: tuple[int, ...]) -> list[Foreign]:
    """Those of projects that the steps among `run`, by their positions, are going to install."""
    steps: list[StepAt[StepLock]] = [StepAt(lock=goal.lock, position=position) for position in run]
    names = {name for at in steps for name in kind_of(at.step).installs(at)}
    if not names:
        return []
    base = Tree({}) if state.first is None else here.folder.read_tree(state.first)
    made, _ = here.folder.made_by(state.steps)
    found = []
    for record in sorted(path for path in now if path.endswith(".dist-info/RECORD")):
        info = posixpath.dirname(record)
        for (folder, name), versions in distributions_in(Manifest(_below(info, now))).items():
            if name not in names:
                continue
            paths = [path for path in _files_of(record, folder, now) if path not in made and path not in base]
            if paths:
                # Last, as the next sync needs it when this one is killed.
                paths.sort(key=lambda path: path == record)
                found.append(Foreign(name=name, version=" and ".join(sorted(versions)), paths=tuple(paths)))
    return found


def remove_foreign(distributions: list[Foreign], journal: Journal, here: Here, progress: Progress) -> None:
    """Removes them. After a kill the next sync finds what is left of them, as long as a RECORD is there."""
    for foreign in distributions:
        progress.begin(f"remove {foreign.text}")
        for path in foreign.paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(on_disk(path))
        for folder in _folders_of(foreign.paths):
            # Others may have files in it.
            with contextlib.suppress(OSError):
                os.rmdir(on_disk(folder))
        progress.done(f"{len(foreign.paths)} files")
    if distributions:
        journal.note_others_work(here.root.scan(journal.tree))


def _below(folder: str, now: Tree) -> list[Entry]:
    return [seen.entry for path, seen in now.items() if path.startswith(f"{folder}/")]


def _files_of(record: str, folder: str, now: Tree) -> list[str]:
    """What the RECORD names and is there, with what was compiled from it: never outside of the Python's folders."""
    with open(on_disk(record), "rb") as file:
        named = {path.strip("/") for path in paths_in_record(file.read(), f"/{folder}")}
    prefix = folder.partition("/lib/")[0]
    places = (folder, *(f"{prefix}/{part}" for part in _BESIDE_MODULES))
    own = {path for path in named if path.startswith(tuple(f"{place}/" for place in places))}
    own |= {entry.path for entry in _below(posixpath.dirname(record), now)}
    compiled = {path for path in now if (source := source_of(path)) is not None and source in own}
    return sorted(path for path in own | compiled if path in now and now[path].entry.kind is not Kind.FOLDER)


def _folders_of(paths: tuple[str, ...]) -> list[str]:
    """The folders that the files were in, the deepest first."""
    return sorted({posixpath.dirname(path) for path in paths}, key=lambda folder: -folder.count("/"))
