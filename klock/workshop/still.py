"""A workshop in which nothing runs: it knows bases and layers by their manifests alone.

With it klock locks for a platform whose programs do not run here, or where no sandbox can be made. What a base shows is
read off its archives as they stream by, and kept under the base's id; layers are composed, or computed from what is
placed. Whoever wants to run a program in it is told what is needed for that.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import weakref
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from klock.digests import Digest, digest_of_bytes, is_digest
from klock.errors import EngineError, HashMismatch, StoreError
from klock.files.placed import PlacedFile
from klock.forks import Tally
from klock.layers.listing import ArchivedLayer, list_layers, read_layers
from klock.layers.manifest import Entry, Kind, Manifest
from klock.progress import QUIET, Progress
from klock.store import Store
from klock.workshop.protocol import (
    BaseLayer,
    Command,
    Completed,
    FileTree,
    Layer,
    NewBase,
    TreeCopy,
    Workspace,
)
from klock.workshop.scratch import scratch_folder
from klock.workshop.searching import is_in_file
from klock.workshop.still_tree import StillTree
from klock.workshop.users import find_owner

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from klock.gpu.edits import ContainerEdits

__all__ = ["StillWorkshop"]

_KIND = "base-manifest"
_BEGINNING = 64 << 10


class StillWorkshop:
    """`klock.workshop.protocol.Workshop`. `why` says why nothing can run, and `hint` where it can.

    `bring` fetches the archives of the base with this id, the lowest first.
    """

    is_still = True
    is_shared = False

    def __init__(
        self, store: Store, *, why: str, hint: str, bring: Callable[[str], Sequence[BaseLayer]] | None = None
    ) -> None:
        self._store = store
        self.why = why
        self.hint = hint
        self.bring = bring
        self._archives: dict[str, Sequence[ArchivedLayer]] = {}
        self._bases: dict[str, Manifest] = {}
        self._layers: dict[Digest, Manifest] = {}
        self._placed: dict[Digest, Mapping[str, Path]] = {}
        self._lasting: Path | None = None
        self._numbers = itertools.count()

    @property
    def by_notes(self) -> StillWorkshop:
        return self

    by_looking = by_notes

    def refuse(self) -> NoReturn:
        raise EngineError(self.why, hint=self.hint)

    def check(self) -> None:
        """Nothing is needed."""

    # -- bases and layers

    def has_base(self, base: str) -> bool:
        return self._known(base) is not None

    def add_base(
        self,
        base: str,
        layers: Sequence[BaseLayer],
        *,
        manifest: Digest | None = None,
        fetch: Callable[[], None] | None = None,
        progress: Progress = QUIET,
    ) -> Manifest:
        """Reads the archives of a base, and takes note of what it shows."""
        if fetch is not None:
            fetch()
        shown = list_layers(self._note(base, layers))
        if manifest not in (None, shown.digest):
            raise HashMismatch(f"the archive of the base has other files than the locked ones: locked {manifest}")
        digest = self._store.add_bytes(shown.to_bytes(), source="the manifest of a base")
        self._store.write_record(_KIND, base, digest)
        self._bases[base] = shown
        return shown

    def base_manifest(self, base: str) -> Manifest:
        manifest = self._known(base)
        if manifest is None:
            raise StoreError(f"the base {base} is not in the store", hint="run `klock sync`")
        return manifest

    def read_files(self, base: str, wanted: Callable[[str], bool], use: Callable[[str, IO[bytes]], None]) -> None:
        """Calls `use` with those files of the base's archives whose paths, relative to the root, are `wanted`."""
        if base not in self._archives and self.bring is not None:
            self._note(base, self.bring(base))
        read_layers(self._archives.get(base, ()), wanted, use)

    def _known(self, base: str) -> Manifest | None:
        if base not in self._bases:
            digest = self._store.read_record(_KIND, base)
            blob = self._store.find_blob(digest) if isinstance(digest, str) and is_digest(digest) else None
            if blob is None:
                return None
            self._bases[base] = Manifest.of_own(blob.read_bytes())
        return self._bases[base]

    def _note(self, base: str, layers: Sequence[BaseLayer]) -> Sequence[ArchivedLayer]:
        found = [
            ArchivedLayer(path=each.path, media_type=each.media_type, diff_id=each.diff_id, name=each.path.name)
            for each in layers
        ]
        self._archives[base] = found
        return found

    def make_base(self) -> AbstractContextManager[NewBase]:
        self.refuse()

    def write_base(self, base: str, archive: Path) -> None:
        self.refuse()

    def has_layer(self, layer: Digest) -> bool:
        return layer in self._layers

    def layer_manifest(self, layer: Digest) -> Manifest | None:
        return self._layers.get(layer)

    def shown_manifest(self, layer: Digest) -> Manifest | None:
        return self._layers.get(layer)

    def write_layer(self, layer: Digest, archive: Path, *, derived: bool = False) -> None:
        self.refuse()

    def write_tree(
        self, base: str, layers: Sequence[Digest], archive: Path, *, manifest: Manifest, times_of: Container[str] = ()
    ) -> int:
        self.refuse()

    def add_layer(
        self,
        archive: Path,
        layer: Digest,
        *,
        media_type: str | None = None,
        limit: int | None = None,
        source: str | None = None,
    ) -> None:
        self.refuse()

    def find_trees(self, keys: Sequence[Digest]) -> Mapping[Digest, FileTree]:
        return {}

    def search_trees(self, keys: Sequence[Digest], values: Sequence[bytes]) -> list[str]:
        return []

    def keep_trees(self, trees: Sequence[FileTree], folders: Sequence[Path]) -> None:
        self.refuse()

    def add_composed_layer(
        self, manifest: Manifest, trees: Sequence[Digest], *, base: str, below: Sequence[Digest]
    ) -> Layer:
        return self.keep(manifest, {})

    def keep(self, manifest: Manifest, placed: Mapping[str, Path]) -> Layer:
        """Takes note of a layer. `placed`: by path relative to the root, the host files whose bytes it has."""
        digest = manifest.digest
        self._layers[digest] = manifest
        self._placed[digest] = placed
        return Layer(digest=digest, manifest=manifest)

    def placed_in(self, layers: Sequence[Digest]) -> dict[str, Path]:
        """By path, the host files that the layers have; a later layer counts."""
        return {path: file for layer in layers for path, file in self._placed.get(layer, {}).items()}

    def copy_out(self, wanted: TreeCopy, folder: Path) -> None:
        self.refuse()

    def remove_unused(self, *, keep: Sequence[Digest] = ()) -> int:
        return 0

    def lasting(self, file: Path) -> Path:
        """The file, or one with its bytes that is there as long as the workshop: a step's scratch folder is not."""
        if not file.is_relative_to(self._store.root / "tmp"):
            return file
        if self._lasting is None:
            stack = ExitStack()
            self._lasting = stack.enter_context(scratch_folder(self._store))
            weakref.finalize(self, stack.close)
        place = self._lasting / str(next(self._numbers))
        try:
            os.link(file, place)
        except OSError:  # the disk has no hard links
            shutil.copyfile(file, place)
        return place

    # -- workspaces

    @contextmanager
    def open(self, base: str, layers: Sequence[Digest], *, varied: bool = False) -> Iterator[Workspace]:
        manifests = [self._layers[layer] for layer in layers]
        below = functools.reduce(Manifest.apply, manifests, self.base_manifest(base))
        yield StillWorkspace(self, base, below, self.placed_in(layers))

    @contextmanager
    def without_hooks(self, edits: ContainerEdits, *, base: str, layers: Sequence[Digest]) -> Iterator[ContainerEdits]:
        self.refuse()
        yield edits


class StillFiles:
    """`klock.workshop.protocol.KnownFiles`."""

    def __init__(self, tree: StillTree, read: Callable[[Sequence[Entry]], dict[str, bytes]]) -> None:
        self._tree = tree
        self._read = read
        self.find, self.real, self.paths = tree.find, tree.real, tree.paths

    def read(self, paths: Sequence[str]) -> Mapping[str, bytes]:
        found = [entry for path in paths if (entry := self._tree.find(f"/{path}")) and entry.kind is Kind.FILE]
        read = self._read(found)
        real = {path: self._tree.real(f"/{path}") for path in paths}
        return {path: read[there] for path, there in real.items() if there in read}


class StillWorkspace:
    """`klock.workshop.protocol.Workspace` over what `below` says."""

    def __init__(self, workshop: StillWorkshop, base: str, below: Manifest, placed: Mapping[str, Path]) -> None:
        self._workshop = workshop
        self._base = base
        self._below = below
        self._tree = StillTree(below)
        self._placed = dict(placed)

    def run(self, command: Command, *, on_output: Callable[[bytes], None] | None = None) -> Completed:
        self._workshop.refuse()

    def run_service(self, command: Command, *, seconds: float = 0.5) -> Completed | None:
        """Nothing can be tried here."""
        return None

    def place(self, files: Sequence[PlacedFile], destination: str, *, owner: str = "", keep: bool = False) -> None:
        if any(file.archive for file in files):
            self._workshop.refuse()
        ids = find_owner(self.read, owner) if owner else (0, 0)
        placed = self._tree.place(files, destination, ids=ids, keep=keep)
        self._placed.update({path: self._workshop.lasting(file) for path, file in placed.items()})

    def copy_from(self, wanted: TreeCopy) -> None:
        self._workshop.refuse()

    @property
    def known(self) -> StillFiles:
        return StillFiles(self._tree, self._read)

    def read(self, path: str) -> bytes | None:
        entry = self._tree.find(path)
        if entry is None or entry.kind is not Kind.FILE:
            return None
        return self._read([entry]).get(entry.path)

    def read_matching(self, patterns: Sequence[str]) -> Mapping[str, bytes]:
        paths = {path for pattern in patterns for path in self._tree.matching(pattern)}
        found_there = {path: self._tree.find(path) for path in sorted(paths)}
        entries = {path: entry for path, entry in found_there.items() if entry and entry.kind is Kind.FILE}
        found = self._read(list(entries.values()))
        return {path: found[entry.path][:_BEGINNING] for path, entry in entries.items() if entry.path in found}

    def find(self, values: Sequence[bytes]) -> list[str]:
        wanted = [value for value in values if value]
        return sorted(f"/{path}" for path in self._tree.written if wanted and self._holds(path, wanted))

    def snapshot(
        self,
        *,
        leave_out: Sequence[str] = (),
        keep: Sequence[str] = (),
        tally: Tally | None = None,
        look: Callable[[Digest], None] | None = None,
    ) -> Layer:
        changes = self._tree.changes(leave_out, keep)
        if look is not None:
            look(changes.digest)
        return self._workshop.keep(changes, self._placed)

    def _holds(self, path: str, values: Sequence[bytes]) -> bool:
        entry = self._tree.find_itself(path)
        texts = (path.rpartition("/")[2], (entry.target if entry else None) or "")
        if any(value in text.encode("utf-8", "surrogateescape") for value in values for text in texts):
            return True
        return path in self._placed and is_in_file(values, os.fspath(self._placed[path]))

    def _read(self, entries: Sequence[Entry]) -> dict[str, bytes]:
        """The bytes of files by their paths in the tree, each of which is what its entry says."""
        wanted = {entry.path: entry for entry in entries}
        found: dict[str, bytes] = {}

        def take(path: str, content: bytes) -> None:
            if digest_of_bytes(content) == wanted[path].digest:
                found[path] = content

        for path in wanted.keys() & self._placed.keys():
            take(path, self._placed[path].read_bytes())
        if missing := wanted.keys() - found.keys():
            self._workshop.read_files(self._base, missing.__contains__, lambda path, file: take(path, file.read()))
        return found
