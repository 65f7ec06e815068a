"""The workshop on this machine's kernel: no daemon and no root, only overlayfs in a user namespace and bubblewrap."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from klock.digests import Digest, digest_of_bytes, digest_of_json, hex_of, is_digest
from klock.errors import HashMismatch, StoreError
from klock.forks import Tally
from klock.progress import QUIET, Progress
from klock.store import Store
from klock.workshop import linux
from klock.workshop.namespace import in_namespace
from klock.workshop.overlay import Area, WritableLayer, area_in
from klock.workshop.scratch import among_all_files, bytes_of, remove_stale, remove_trees, scratch_folder
from klock.workshop.trees import Trees
from klock.workshop.unpacking import unpack_in_root

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.gpu.edits import ContainerEdits
    from klock.layers.manifest import Manifest
    from klock.workshop.protocol import BaseLayer, FileTree, Layer, NewBase, TreeCopy, Workspace
    from klock.workshop.whole import NotedTrees, WholeTrees

__all__ = ["SandboxWorkshop"]


class SandboxWorkshop:
    """`klock.workshop.protocol.Workshop`. `trees` are its unpacked bases and layers.

    Several klock processes may use one store at once; what they keep appears by one rename each.
    """

    is_still = False
    is_shared = True

    def __init__(self, store: Store, *, ca_bundle: Path | None = None, looking: SandboxWorkshop | None = None) -> None:
        """`ca_bundle`: certificates that commands with the host's network trust. With `looking` this one goes by notes,
        and that one looks."""
        self._store = store
        self._looking = looking
        self.trees = Trees(store)
        self._whole: WholeTrees | NotedTrees | None = None
        self.ca_bundle = ca_bundle

    def check(self) -> None:
        """Raises EngineError when bubblewrap, user namespaces, a range of ids or a usable overlayfs is missing."""
        from klock.workshop.bubblewrap_program import find_bubblewrap

        find_bubblewrap()
        with scratch_folder(self._store) as folder:
            in_namespace(lambda: self._probe(folder))

    def _probe(self, folder: Path) -> None:
        writable = WritableLayer.create(folder)
        (folder / "lower").mkdir()
        Area.create(self.area()).mount_to_write([folder / "lower"], writable)

    @property
    def by_notes(self) -> SandboxWorkshop:
        return SandboxWorkshop(self._store, ca_bundle=self.ca_bundle, looking=self.by_looking)

    @property
    def by_looking(self) -> SandboxWorkshop:
        return self._looking or self

    @property
    def _whole_trees(self) -> WholeTrees | NotedTrees:
        if self._whole is None:
            from klock.workshop.whole import NotedTrees

            self._whole = NotedTrees(self.trees, self._looking._looking_trees) if self._looking else self._looking_trees
        return self._whole

    @cached_property
    def _looking_trees(self) -> WholeTrees:
        from klock.workshop.whole import WholeTrees

        return WholeTrees(self.trees, self.area())

    # -- bases and layers

    def has_base(self, base: str) -> bool:
        return self._whole_trees.has_base(base)

    def add_base(
        self,
        base: str,
        layers: Sequence[BaseLayer],
        *,
        manifest: Digest | None = None,
        fetch: Callable[[], None] | None = None,
        progress: Progress = QUIET,
    ) -> Manifest:
        """Unpacks a base (an archive that another base brought is not unpacked again) and returns what it shows."""
        with self._store.lock(f"base-{hex_of(base)}"):
            if not self.has_base(base):
                with scratch_folder(self._store) as folder:
                    self._add_base(base, layers, folder, fetch=fetch, expected=manifest, progress=progress)
        return self.base_manifest(base)

    @contextmanager
    def make_base(self) -> Iterator[NewBase]:
        """A base to be made of packages; see `klock.workshop.protocol.Workshop`."""
        from klock.workshop.new_base import SandboxNewBase

        with scratch_folder(self._store) as folder:
            yield SandboxNewBase(trees=self.trees, area=self.area(), folder=folder, stack=(), ca_bundle=self.ca_bundle)

    def base_manifest(self, base: str) -> Manifest:
        return self.trees.base_manifest(base)

    def write_base(self, base: str, archive: Path) -> None:
        """Writes a base that is here as one tar archive; equal bases give equal files, modes, owners and times."""
        from klock.layers.pack import pack

        manifest = self.base_manifest(base)
        diffs = [self.trees.diff(diff_id) / "root" for diff_id in self.trees.diffs_of(base)]
        with open(archive, "wb") as output:

            def task() -> None:
                lower = Area.create(self.area()).mount_to_read(diffs)
                pack(os.fsencode(lower), manifest, output, times_of=manifest)
                output.flush()

            in_namespace(task)

    def has_layer(self, layer: Digest) -> bool:
        return self._whole_trees.has_layer(layer)

    def layer_manifest(self, layer: Digest) -> Manifest | None:
        return self.trees.layer_manifest(layer) if self.has_layer(layer) else None

    def shown_manifest(self, layer: Digest) -> Manifest | None:
        return self.trees.shown_manifest(layer) if self.has_layer(layer) else None

    def write_layer(self, layer: Digest, archive: Path, *, derived: bool = False) -> None:
        """Writes a layer that is here as a tar archive; see `klock.workshop.protocol.Workshop`."""
        from klock.layers.pack import pack

        manifest = self.trees.shown_manifest(layer) if derived else self.trees.layer_manifest(layer)
        folders = [folder / "root" for folder in self.trees.folders_of(layer)]
        try:
            with open(archive, "wb") as output:

                def task() -> None:
                    root = folders[0] if len(folders) == 1 else Area.create(self.area()).mount_to_read(folders)
                    pack(os.fsencode(root), manifest, output)
                    output.flush()

                in_namespace(task)
        except BaseException:
            archive.unlink(missing_ok=True)
            raise

    def write_tree(
        self, base: str, layers: Sequence[Digest], archive: Path, *, manifest: Manifest, times_of: Container[str] = ()
    ) -> int:
        """Writes what a base with layers shows as one tar archive; see `klock.workshop.protocol.Workshop`."""
        from klock.layers.pack import pack

        stack = self.trees.stack(base, layers)
        with open(archive, "wb") as output:

            def task() -> int:
                lower = Area.create(self.area()).mount_to_read(stack)
                latest = pack(os.fsencode(lower), manifest, output, times_of=times_of)
                output.flush()
                return latest

            return in_namespace(task)

    def find_trees(self, keys: Sequence[Digest]) -> dict[Digest, FileTree]:
        return {key: self.trees.file_tree(key) for key in keys if self._whole_trees.has_tree(key)}

    def search_trees(self, keys: Sequence[Digest], values: Sequence[bytes]) -> list[str]:
        from klock.workshop.searching import paths_with

        roots = [str(self.trees.tree(key) / "root") for key in keys] if values else []
        return sorted({path for root in roots for path in paths_with(values, root)})

    def keep_trees(self, trees: Sequence[FileTree], folders: Sequence[Path]) -> None:
        """Takes finished trees from `folders`; see `klock.workshop.protocol.Workshop`."""
        for tree, folder in zip(trees, folders, strict=True):
            self.trees.write_manifests(tree, folder)
        self.trees.keep_all({folder: self.trees.tree(t.key) for t, folder in zip(trees, folders, strict=True)})

    def add_composed_layer(
        self, manifest: Manifest, trees: Sequence[Digest], *, base: str, below: Sequence[Digest]
    ) -> Layer:
        """Keeps a layer that is composed of trees; see `klock.workshop.protocol.Workshop`."""
        from klock.workshop import joining
        from klock.workshop.covering import cover_of, make_cover
        from klock.workshop.protocol import Layer

        digest = manifest.digest
        if len(trees) > joining.MOST:
            trees = self._joined(trees)
        with scratch_folder(self._store) as folder:
            covering = cover_of(
                manifest, [self.base_manifest(base), *(self.trees.layer_manifest(layer) for layer in below)]
            )
            cover = self.trees.cover(covering.digest)
            finished: dict[Path, Path] = {}
            if not self._whole_trees.has_cover(covering.digest):
                made = folder / "cover"
                made.mkdir()
                in_namespace(lambda: make_cover(covering, made / "root"))
                (made / "manifest").write_bytes(covering.to_bytes())
                finished[made] = cover
            parts = [*map(self.trees.tree, trees), cover]
            made = folder / "layer"
            made.mkdir()
            (made / "manifest").write_bytes(manifest.to_bytes())
            (made / "parts").write_text("".join(f"{part.name}\n" for part in parts), "ascii")
            final = self.trees.layer(digest)
            if final.exists() and not self.has_layer(digest):
                remove_trees([self.trees.put_aside(final)])
            # The cover first: a layer that has its name is whole.
            self.trees.keep_all({**finished, made: final})
        return Layer(digest=digest, manifest=manifest)

    def _joined(self, keys: Sequence[Digest]) -> list[Digest]:
        """Fewer trees that show the same. Raises StoreError for one that was changed, and is not here any more then.

        Their files are looked at, also by notes: what is joined of them counts as it was made now."""
        from klock.workshop import joining
        from klock.workshop.protocol import FileTree

        found, looking = [], self.by_looking._looking_trees
        for start in range(0, len(keys), joining.AT_ONCE):
            group = keys[start : start + joining.AT_ONCE]
            joined = digest_of_json(["joined", *group])
            found.append(joined)
            if self._whole_trees.has_tree(joined):
                continue
            for key in group:
                if not looking.has_tree(key):
                    raise StoreError(f"the tree {key} was changed in the store", hint="try again: it is made anew")
            trees = [self.trees.file_tree(key) for key in group]
            with scratch_folder(self._store) as folder:
                made = folder / "tree"
                made.mkdir()
                files, derived = joining.join(trees, [self.trees.tree(key) / "root" for key in group], made / "root")
                self.keep_trees([FileTree(key=joined, files=files, derived=derived)], [made])
        return found

    def add_layer(
        self,
        archive: Path,
        layer: Digest,
        *,
        media_type: str | None = None,
        limit: int | None = None,
        source: str | None = None,
    ) -> None:
        """Takes in what `write_layer` wrote, if it is the layer with this digest; see
        `klock.workshop.protocol.Workshop`."""
        if self.has_layer(layer):
            return
        from klock.layers.pack import unpack_layer

        with scratch_folder(self._store) as folder:
            made = folder / "layer"
            root = made / "root"
            root.mkdir(parents=True)
            root.chmod(0o755)

            def unpacked(file: BinaryIO) -> bytes:
                name = source or f"the archive {archive.name}"
                return unpack_layer(file, layer=layer, source=name, media_type=media_type, limit=limit).to_bytes()

            (made / "manifest").write_bytes(in_namespace(lambda: unpack_in_root(archive, root, unpacked)))
            self.trees.keep(made, self.trees.layer(layer))

    def _has_diff(self, layer: BaseLayer) -> bool:
        """Whether the archive is unpacked here, and as it was then. What is not gets out of the way."""
        return bool(layer.diff_id) and self._whole_trees.has_diff(layer.diff_id)

    def _add_base(
        self,
        base: str,
        layers: Sequence[BaseLayer],
        folder: Path,
        *,
        fetch: Callable[[], None] | None,
        expected: Digest | None,
        progress: Progress,
    ) -> None:
        """Unpacks into `folder`, and keeps all of it at once: to wait for the disk takes longer than to unpack."""
        from klock.layers.scan import manifest_of_tree

        diff_ids, made = self._unpack_missing(layers, folder, fetch, progress)
        unpacked_at = {final: here for here, final in made.items()}
        roots = [unpacked_at.get(final, final) / "root" for final in map(self.trees.diff, diff_ids)]
        described = folder / "base"
        described.mkdir()

        tally = Tally("paths")

        def task() -> None:
            lower = Area.create(self.area()).mount_to_read(roots)
            (described / "manifest").write_bytes(manifest_of_tree(os.fsencode(lower), tally).to_bytes())

        with progress.stage("hash", tally), linux.written_meanwhile(str(folder)):
            in_namespace(task)
        found = digest_of_bytes((described / "manifest").read_bytes())
        if expected not in (None, found):
            raise HashMismatch(
                f"the archive of the base has other files than the locked ones: locked {expected}, found {found}",
                hint="do not trust where it came from",
            )
        (described / "diffs").write_text("".join(f"{diff_id}\n" for diff_id in diff_ids), "ascii")
        # The base last: without its archives it would be none.
        self.trees.keep_all({**made, described: self.trees.base(base)})

    def _unpack_missing(
        self, layers: Sequence[BaseLayer], folder: Path, fetch: Callable[[], None] | None, progress: Progress
    ) -> tuple[list[Digest], dict[Path, Path]]:
        """Unpacks the archives that are not here into `folder`. The digests of all, and where what was unpacked
        belongs."""
        from klock.workshop.base_layers import unpack_layers

        diff_ids = [layer.diff_id for layer in layers]
        # One archive may be there twice. A digest that is not known yet is no other's.
        missing = {
            number: folder / f"diff-{number}"
            for number, layer in enumerate(layers)
            if not layer.diff_id or (number == diff_ids.index(layer.diff_id) and not self._has_diff(layer))
        }
        found = unpack_layers({here: layers[n] for n, here in missing.items()}, fetch=fetch, progress=progress)
        for number, here in missing.items():
            diff_ids[number] = found[here]
        return diff_ids, {here: self.trees.diff(diff_id) for here, diff_id in found.items()}

    def copy_out(self, wanted: TreeCopy, folder: Path) -> None:
        """Copies what a base with layers holds into an empty folder; see `klock.workshop.protocol.Workshop`."""
        from klock.workshop.copying import copy_between

        stack = self.trees.stack(wanted.base, wanted.layers)
        in_namespace(
            lambda: copy_between(Area.create(self.area()).mount_to_read(stack), os.fspath(folder), wanted, None)
        )

    # -- places to work

    @contextmanager
    def open(self, base: str, layers: Sequence[Digest], *, varied: bool = False) -> Iterator[Workspace]:
        """A workspace over a base and layers that are all here; see `klock.workshop.protocol.Workshop`."""
        from klock.workshop.workspace import SandboxWorkspace

        with scratch_folder(self._store) as folder:
            yield SandboxWorkspace(
                trees=self.trees,
                area=self.area(),
                folder=folder,
                stack=self.trees.stack(base, layers),
                ca_bundle=self.ca_bundle,
                varied=varied,
            )

    @contextmanager
    def without_hooks(self, edits: ContainerEdits, *, base: str, layers: Sequence[Digest]) -> Iterator[ContainerEdits]:
        """`edits` with mounts instead of hooks; see `klock.workshop.protocol.Workshop`."""
        if not edits.hooks:
            yield edits
            return
        from klock.workshop.hooks import hooks_as_mounts

        stack = self.trees.stack(base, layers)
        with scratch_folder(self._store) as folder:
            yield in_namespace(lambda: hooks_as_mounts(edits, stack, Area.create(self.area()), folder))

    def area(self) -> str:
        """The folder below which namespace processes mount, each for itself."""
        return area_in(self._store)

    # -- pruning

    def remove_unused(self, *, keep: Sequence[Digest] = (), progress: Progress = QUIET) -> int:
        """Removes all bases and layers but those in `keep`, and half-made things; returns the bytes freed."""
        removed = self._unused(keep)
        remove_stale(self._store)
        freed = self.bytes_in(removed)
        tally = Tally("paths")
        with progress.stage("remove", tally):
            # From their names first: if this is ended now, nobody takes what is left of one for all of it.
            remove_trees([self.trees.put_aside(folder) for folder in removed], tally)
        return freed

    def bytes_unused(self, *, keep: Sequence[Digest] = ()) -> int:
        """What `remove_unused` would free."""
        return self.bytes_in(self._unused(keep))

    def bytes_in(self, folders: Sequence[Path]) -> int:
        """The bytes that folders of the store take on its disk, whoever owns their files."""
        return among_all_files(lambda: sum(bytes_of(folder) for folder in folders)) if folders else 0

    def _unused(self, keep: Sequence[Digest]) -> list[Path]:
        trees = _folders(self._store.root / "trees")
        digests = {digest for digest in keep if is_digest(digest)}
        bases = [digest for digest in digests if self.trees.base(digest) in trees]
        kept = {self.trees.base(base) for base in bases}
        kept |= {self.trees.diff(diff_id) for diff_id in self.trees.diffs_of_bases(bases)}
        layers = {digest: self.trees.layer(digest) for digest in digests}
        present = [digest for digest, layer in layers.items() if layer in trees]
        kept |= {folder for digest in present for folder in self.trees.folders_of(digest)}
        kept |= set(layers.values())
        return [tree for tree in trees if tree not in kept]


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(found for found in folder.iterdir() if found.is_dir())
    except FileNotFoundError:
        return []
