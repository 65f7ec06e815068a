"""What klock knows of the container it runs in, kept in the container itself, as its root file system lives and dies.

/var/lib/klock/here/
    state.json        the base, the steps that were done, and what is being done at this moment
    trees/<name>      the root file system before the first and after the last of them (`klock.places.here.tree`), and
                      what they made of it
    layers/<hex>      by the digest of each step's locked layer, the manifest of all that the step made here
    undo/<name>/      how to take a step back: `own` (what it may write), `before` (what was there, as a tree), `added`
                      and `kept/` (bytes by hash)

state.json is replaced in one rename, and what it names is on disk before. So after a kill it says what was going on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from klock.digests import Digest, digest_of_bytes, hex_of
from klock.documents import read_json
from klock.errors import EngineError, StoreError
from klock.layers.manifest import Manifest
from klock.places.here.step_paths import StepPaths
from klock.places.here.tree import Tree
from klock.values import dataclass
from klock.workshop.protocol import Layer
from klock.workshop.scratch import file_lock

__all__ = ["FOLDER", "FORCED", "Doing", "Done", "State", "StateFolder"]

FOLDER: Final = Path("/var/lib/klock/here")
FORCED: Final = "forced"
"""The fingerprint in the record of a container that a sync left other than locked."""
_VERSION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step that was done. `undo` names how it is taken back; None for one that cannot be, and `why` says why."""

    key: Digest
    layer: Digest
    text: str
    undo: str | None = None
    why: str = ""
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """A step that was begun, over the tree of the state: it is finished, or taken back with `undo`, before any other.

    `undo` is None for a step that cannot be taken back.
    """

    key: Digest
    text: str
    undo: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`base` is the locked one's id, `tree` names what the root held after the last of `steps`, `first` what it held
    before any of them (None where an older klock did not keep it).

    `record` is what a finished sync left (`klock.replay.goal.Goal.record`), and `made` names the part of the tree
    that the steps made. `forced` are the texts of steps that were done and then left behind by `--force`. `left` are
    folders of steps that were taken back, which stayed as others have files in them.
    """

    base: str
    tree: str
    steps: tuple[Done, ...] = ()
    doing: Doing | None = None
    record: Mapping[str, object] | None = None
    first: str | None = None
    made: str | None = None
    forced: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class StateFolder:
    def __init__(self, root: Path = FOLDER) -> None:
        self.root = root

    def read(self) -> State | None:
        """None before the first sync. Raises StoreError for a state that is damaged."""
        try:
            found: dict[str, Any] = read_json((self.root / "state.json").read_bytes(), any_text=True)
            if found.pop("version") != _VERSION:
                raise ValueError("another version")
            doing = found.pop("doing")
            steps = tuple(Done(**{**step, "leave_out": tuple(step["leave_out"])}) for step in found.pop("steps"))
            forced, left = tuple(found.pop("forced")), tuple(found.pop("left", ()))
            if doing is not None:
                doing = Doing(**doing)
            return State(**found, steps=steps, doing=doing, forced=forced, left=left)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{self.root}/state.json is damaged: {error}", hint="start a new container, or remove the file"
            ) from error

    def write(self, state: State) -> None:
        value = {"version": _VERSION, **asdict(state)}
        self._write(self.root / "state.json", json.dumps(value, sort_keys=True).encode())

    def read_tree(self, name: str) -> Tree:
        """Raises StoreError when it is not there any more, as the other readings do."""
        return Tree.from_bytes(self._read(self.root / "trees" / name))

    def write_tree(self, tree: Tree) -> str:
        """Returns the name for `read_tree`."""
        name = os.urandom(6).hex()
        self._write(self.root / "trees" / name, tree.to_bytes())
        return name

    def layer(self, digest: Digest) -> Manifest:
        """All that the step with the locked layer `digest` made here. Raises StoreError when that is not known."""
        try:
            content = (self.root / "layers" / hex_of(digest)).read_bytes()
        except FileNotFoundError:
            content = b""
        written, _, rest = content.partition(b"\n")
        if digest_of_bytes(rest).encode("ascii") != written:
            raise StoreError(f"the manifest of {digest} in {self.root} is damaged", hint="start a new container")
        return Manifest.from_bytes(rest)

    def write_layer(self, layer: Layer) -> None:
        """Writes down what a step made, by the digest of its locked layer."""
        digest = layer.manifest.digest.encode("ascii")
        self._write(self.root / "layers" / hex_of(layer.digest), digest + b"\n" + layer.manifest.to_bytes())

    def made_by(self, steps: Sequence[Done]) -> tuple[Manifest, dict[str, int]]:
        """What `steps` made, by their layers alone, and the number of the step that said the last word on a path."""
        made, owner = Manifest(), {}
        for number, done in enumerate(steps):
            layer = self.layer(done.layer)
            made = made.apply(layer)
            owner.update(dict.fromkeys(layer, number))
        return made, owner

    # -- how to take a step back

    def new_undo(self) -> tuple[str, Path]:
        """A name and a new folder for the files that a step will replace."""
        name = os.urandom(6).hex()
        kept = self.undo_folder(name) / "kept"
        kept.mkdir(mode=0o700, parents=True)
        return name, kept

    def undo_folder(self, name: str) -> Path:
        return self.root / "undo" / name

    def write_own(self, name: str, own: StepPaths) -> None:
        self._write(self.undo_folder(name) / "own", own.to_bytes())

    def read_own(self, name: str) -> StepPaths:
        return StepPaths.from_bytes(self._read(self.undo_folder(name) / "own"))

    def write_undo(self, name: str, before: Tree, added: list[str]) -> None:
        self._write(self.undo_folder(name) / "before", before.to_bytes())
        self._write(self.undo_folder(name) / "added", json.dumps(added).encode())

    def read_undo(self, name: str) -> tuple[Tree, list[str]]:
        folder = self.undo_folder(name)
        return Tree.from_bytes(self._read(folder / "before")), read_json(self._read(folder / "added"), any_text=True)

    def forget_others(self, state: State) -> None:
        """Removes what no step of `state` needs any more."""
        needed = {step.undo for step in state.steps} | ({state.doing.undo} if state.doing else set())
        for folder in (self.root / "undo").glob("*"):
            if folder.name not in needed:
                shutil.rmtree(folder)
        for file in (self.root / "trees").glob("*"):
            if file.name not in (state.first, state.tree, state.made):
                file.unlink()
        layers = {hex_of(step.layer) for step in state.steps}
        for file in (self.root / "layers").glob("*"):
            if file.name not in layers:
                file.unlink()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time changes the container."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"klock cannot keep its notes in {self.root}: {error.strerror}",
                hint="run klock as root of the container, on a root file system that can be written",
            ) from error
        with file_lock(self.root / "lock"):
            yield

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise StoreError(
                f"klock's notes of this container are incomplete: there is no {path}",
                hint=f"start a new container, or remove {self.root}: klock then runs all steps again",
            ) from error

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
