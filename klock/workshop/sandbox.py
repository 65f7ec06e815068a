"""The embedded engine: no daemon and no root, only overlayfs in a user namespace and bubblewrap."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from klock.digests import Digest, hex_of, is_digest
from klock.errors import EngineError
from klock.places.sandbox.environment import SandboxEnvironment
from klock.store import Store
from klock.workshop.namespace import in_namespace
from klock.workshop.overlay import Area, WritableLayer
from klock.workshop.scratch import among_all_files, bytes_of, remove_stale, remove_trees, scratch_folder
from klock.workshop.trees import Trees

# What does the work is imported when there is some: to find that there is none takes little.
if TYPE_CHECKING:
    from klock.gpu.edits import ContainerEdits
    from klock.layers.manifest import Manifest
    from klock.workshop.protocol import BaseLayer, Workspace

__all__ = ["SandboxWorkshop", "preload"]


class SandboxWorkshop:
    """`klock.workshop.protocol.Engine` on this machine's kernel.

    Several klock processes may use one store at once; what they keep appears by one rename each.
    """

    name = "sandbox"

    def __init__(self, store: Store, *, ca_bundle: Path | None = None) -> None:
        """`ca_bundle`: certificates that commands with the host's network trust; by default those of SSL_CERT_FILE."""
        self._store = store
        self._trees = Trees(store)
        configured = os.environ.get("SSL_CERT_FILE")
        self._ca_bundle = ca_bundle or (Path(configured) if configured and Path(configured).is_file() else None)

    def check(self) -> None:
        """Raises EngineError when bubblewrap, user namespaces, a range of ids or a usable overlayfs is missing."""
        from klock.workshop.commands import find_bubblewrap

        find_bubblewrap()
        with scratch_folder(self._store) as folder:
            in_namespace(lambda: self._probe(folder))

    def _probe(self, folder: Path) -> None:
        writable = WritableLayer.create(folder)
        (folder / "lower").mkdir()
        Area.create(self._area()).mount_to_write([folder / "lower"], writable)

    # -- bases and layers

    def has_base(self, base: str) -> bool:
        return self._trees.has_base(base)

    def add_base(self, base: str, layers: Sequence[BaseLayer]) -> Manifest:
        """Unpacks a base (an archive that another base brought is not unpacked again) and returns what it shows."""
        with self._store.lock(f"base-{hex_of(base)}"):
            if not self.has_base(base):
                diff_ids = [self._add_diff(layer) for layer in layers]
                self._describe_base(base, diff_ids)
        return self.base_manifest(base)

    def base_manifest(self, base: str) -> Manifest:
        return self._trees.base_manifest(base)

    def write_base(self, base: str, archive: Path) -> None:
        """Writes a base that is here as one tar archive; equal bases give equal files, modes, owners and times."""
        from klock.layers.pack import pack

        manifest = self.base_manifest(base)
        diffs = [self._trees.diff(diff_id) / "root" for diff_id in self._trees.diffs_of(base)]
        with open(archive, "wb") as output:

            def task() -> None:
                lower = Area.create(self._area()).mount_to_read(diffs)
                pack(os.fsencode(lower), manifest, output, keep_times=True)
                output.flush()

            in_namespace(task)

    def has_layer(self, layer: Digest) -> bool:
        return self._trees.layer(layer).exists()

    def layer_manifest(self, layer: Digest) -> Manifest | None:
        return self._trees.layer_manifest(layer) if self.has_layer(layer) else None

    def write_layer(self, layer: Digest, archive: Path) -> None:
        """Writes a layer that is here as a tar archive; see `klock.workshop.protocol.Engine`."""
        from klock.layers.pack import pack

        manifest = self._trees.layer_manifest(layer)
        root = os.fsencode(self._trees.layer(layer) / "root")
        try:
            with open(archive, "wb") as output:

                def task() -> None:
                    pack(root, manifest, output)
                    output.flush()

                in_namespace(task)
        except BaseException:
            archive.unlink(missing_ok=True)
            raise

    def add_layer(self, archive: Path, layer: Digest) -> None:
        """Takes in what `write_layer` wrote, if it is the layer with this digest."""
        if self.has_layer(layer):
            return
        from klock.layers.pack import unpack_layer

        with scratch_folder(self._store) as folder:
            made = folder / "layer"
            root = made / "root"
            root.mkdir(parents=True)
            root.chmod(0o755)

            def task() -> bytes:
                with open(archive, "rb") as file:
                    preload()
                    os.chroot(root)
                    os.chdir("/")
                    return unpack_layer(file, layer=layer, source=f"the archive {archive.name}").to_bytes()

            (made / "manifest").write_bytes(in_namespace(task))
            self._trees.keep(made, self._trees.layer(layer))

    def _add_diff(self, layer: BaseLayer) -> Digest:
        if layer.diff_id and self._trees.diff(layer.diff_id).exists():
            return layer.diff_id
        from klock.layers.unpack import unpack

        with scratch_folder(self._store) as folder:
            root = folder / "diff" / "root"
            root.mkdir(parents=True)
            root.chmod(0o755)

            def task() -> Digest:
                with open(layer.path, "rb") as archive:
                    preload()
                    os.chroot(root)
                    os.chdir("/")
                    return unpack(archive, media_type=layer.media_type, diff_id=layer.diff_id, source=layer.path.name)

            diff_id = in_namespace(task)
            self._trees.keep(folder / "diff", self._trees.diff(diff_id))
        return diff_id

    def _describe_base(self, base: str, diff_ids: Sequence[Digest]) -> None:
        from klock.layers.scan import manifest_of_tree

        diffs = [self._trees.diff(diff_id) / "root" for diff_id in diff_ids]
        with scratch_folder(self._store) as folder:
            made = folder / "base"
            made.mkdir()

            def task() -> None:
                lower = Area.create(self._area()).mount_to_read(diffs)
                (made / "manifest").write_bytes(manifest_of_tree(os.fsencode(lower)).to_bytes())

            in_namespace(task)
            (made / "diffs").write_text("".join(f"{diff_id}\n" for diff_id in diff_ids), "ascii")
            self._trees.keep(made, self._trees.base(base))

    # -- places to work

    @contextmanager
    def open(self, base: str, layers: Sequence[Digest]) -> Iterator[Workspace]:
        """A workspace over a base and layers that are all here. Raises StoreError when they are not."""
        from klock.workshop.workspace import SandboxWorkspace

        with scratch_folder(self._store) as folder:
            yield SandboxWorkspace(
                trees=self._trees,
                area=Path(self._area()),
                folder=folder,
                base=base,
                layers=layers,
                ca_bundle=self._ca_bundle,
            )

    @contextmanager
    def without_hooks(self, edits: ContainerEdits, *, base: str, layers: Sequence[Digest]) -> Iterator[ContainerEdits]:
        """`edits` with mounts instead of hooks; see `klock.workshop.protocol.Engine`."""
        if not edits.hooks:
            yield edits
            return
        from klock.workshop.hooks import hooks_as_mounts

        stack = self._trees.stack(base, layers)
        with scratch_folder(self._store) as folder:
            yield in_namespace(lambda: hooks_as_mounts(edits, stack, Area.create(self._area()), folder))

    def environment(self, name: str) -> SandboxEnvironment:
        return SandboxEnvironment(
            name, store=self._store, trees=self._trees, area=Path(self._area()), ca_bundle=self._ca_bundle
        )

    def _area(self) -> str:
        """The folder below which namespace processes mount, each for itself."""
        path = self._store.root / "mnt"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(path)

    # -- pruning

    def remove_all(self, *, keep: Sequence[str] = ()) -> int:
        """Removes what `keep` does not name (base ids, layer digests, names of environments); returns the bytes freed.

        What a kept environment is made of is kept too, and so is an environment in which a command runs.
        """
        wanted = set(keep)
        removed: list[Path] = []
        for folder in _folders(self._store.root / "environments"):
            environment = self.environment(folder.name)
            if folder.name in wanted or environment.is_in_use:
                wanted.update(environment.parts)
            else:
                removed.append(folder)
        trees = _folders(self._store.root / "trees")
        digests = {digest for digest in wanted if is_digest(digest)}
        bases = [digest for digest in digests if self._trees.base(digest) in trees]
        kept = {self._trees.base(base) for base in bases}
        kept |= {self._trees.diff(diff_id) for diff_id in self._trees.diffs_of_bases(bases)}
        kept |= {self._trees.layer(digest) for digest in digests}
        removed += [tree for tree in trees if tree not in kept]
        remove_stale(self._store)
        if not removed:
            return 0
        freed = among_all_files(lambda: sum(bytes_of(folder) for folder in removed))
        remove_trees(removed)
        return freed


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(found for found in folder.iterdir() if found.is_dir())
    except FileNotFoundError:
        return []


def preload() -> None:
    """Imports what `unpack` may need; afterwards the root is another one, in which Python finds nothing of its own."""
    import contextlib
    import encodings.idna
    import tarfile

    assert encodings.idna and tarfile
    with contextlib.suppress(ImportError):
        import zstandard

        assert zstandard
    # Fills the caches behind the first warning or error text.
    EngineError("")
