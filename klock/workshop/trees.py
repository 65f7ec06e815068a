"""The unpacked layers and bases of the store: folders under `trees/`, each made whole in a scratch folder and renamed.

trees/diff-<hex>/root        one archive of a base image, unpacked as it is; shared by bases
trees/base-<hex>/            `diffs` (the archives of a base, the lowest first) and `manifest` (all it shows)
trees/layer-<hex>/root       the layer of a step in canonical form, and `manifest`
trees/layer-<hex>/parts      or, of a layer that is composed of trees, their names, the lowest first
trees/tree-<hex>/root        a tree that layers are composed of: `manifest` is what is locked of it, `derived` the rest
trees/cover-<hex>/root       what lies over the trees of such a layer: folders as they are below it, and whiteouts

Beside each root there is `stats`, by which a change is seen (`klock.tree_stats`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.digests import Digest, digest_of_bytes, hex_of
from klock.errors import StoreError
from klock.store import Store
from klock.tree_stats import note_stats
from klock.workshop import linux

if TYPE_CHECKING:
    from klock.layers.manifest import Entry, Manifest
    from klock.workshop.protocol import FileTree

__all__ = ["DERIVED", "Trees"]

_MANIFEST: Final = "manifest"
DERIVED: Final = "derived"
_DIGESTS: Final = "digests"


class Trees:
    def __init__(self, store: Store) -> None:
        self._store = store

    def diff(self, diff_id: Digest) -> Path:
        return self._store.tree_path(f"diff-{hex_of(diff_id)}")

    def base(self, base: str) -> Path:
        return self._store.tree_path(f"base-{hex_of(base)}")

    def layer(self, layer: Digest) -> Path:
        return self._store.tree_path(f"layer-{hex_of(layer)}")

    def tree(self, key: Digest) -> Path:
        return self._store.tree_path(f"tree-{hex_of(key)}")

    def cover(self, digest: Digest) -> Path:
        return self._store.tree_path(f"cover-{hex_of(digest)}")

    def parts_of(self, layer: Digest) -> list[Path] | None:
        """The folders that a composed layer is made of, the lowest first; None for a layer that is one tree."""
        try:
            names = (self.layer(layer) / "parts").read_text("ascii").split()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return [self._store.tree_path(name) for name in names]

    def folders_of(self, layer: Digest) -> list[Path]:
        """The folders whose roots show the layer when they lie upon each other, the lowest first."""
        parts = self.parts_of(layer)
        return [self.layer(layer)] if parts is None else parts

    def has_base(self, base: str) -> bool:
        try:
            return all(self.diff(diff_id).exists() for diff_id in self.diffs_of(base))
        except FileNotFoundError:
            return False

    def base_manifest(self, base: str) -> Manifest:
        return self._manifest(self.base(base), f"the base {base}")

    def layer_manifest(self, layer: Digest) -> Manifest:
        from klock.layers.manifest import Manifest

        folder = self.layer(layer)
        content = self._content(folder, f"the layer {layer}")
        if digest_of_bytes(content) != layer:
            raise StoreError(
                f"the layer {layer} was changed in the store", hint=f"remove {folder}, then run `klock sync`"
            )
        return Manifest.of_own(content)

    def shown_manifest(self, layer: Digest) -> Manifest:
        """The layer's manifest with what was derived of it: see `klock.workshop.protocol.FileTree`."""
        from klock.layers.manifest import Manifest

        manifest = self.layer_manifest(layer)
        entries: dict[str, Entry] = {}
        for folder in self.parts_of(layer) or ():
            if (folder / DERIVED).exists():
                entries.update(self._manifest(folder, folder.name, DERIVED))
        return Manifest([*manifest.values(), *entries.values()]) if entries else manifest

    def file_tree(self, key: Digest) -> FileTree:
        """Raises StoreError when it is not here, or damaged."""
        from klock.layers.manifest import Manifest
        from klock.workshop.protocol import FileTree

        folder, what = self.tree(key), f"the tree {key}"
        contents = [self._content(folder, what, name) for name in (_MANIFEST, DERIVED)]
        if [digest_of_bytes(content) for content in contents] != self._content(folder, what, _DIGESTS).decode().split():
            raise StoreError(f"{what} was changed in the store", hint=f"remove {folder}, then run `klock sync`")
        files, derived = map(Manifest.of_own, contents)
        return FileTree(key=key, files=files, derived=derived)

    def write_manifests(self, tree: FileTree, folder: Path) -> None:
        """Writes beside the root of a tree what it holds."""
        (folder / _MANIFEST).write_bytes(tree.files.to_bytes())
        (folder / DERIVED).write_bytes(tree.derived.to_bytes())
        (folder / _DIGESTS).write_text(f"{tree.files.digest}\n{tree.derived.digest}\n", "ascii")

    def noted_manifest(self, folder: Path) -> Manifest:
        """All that the root of a part of a layer should have in it. Raises StoreError."""
        from klock.layers.manifest import Manifest

        # Covers have nothing derived.
        names = (_MANIFEST, DERIVED) if (folder / DERIVED).exists() else (_MANIFEST,)
        return Manifest(e for name in names for e in self._manifest(folder, folder.name, name).values())

    def stack(self, base: str, layers: Sequence[Digest]) -> list[Path]:
        """The folders to mount for a base and layers, the lowest first. Raises StoreError when one is not here."""
        try:
            folders = [self.diff(diff_id) for diff_id in self.diffs_of(base)]
        except FileNotFoundError:
            raise StoreError(f"the base {base} is not in the store", hint="run `klock sync`") from None
        folders += [folder for layer in layers for folder in self.folders_of(layer)]
        for folder in folders:
            if not folder.exists():
                raise StoreError(f"{folder.name} is not in the store", hint="run `klock sync`")
        return [folder / "root" for folder in folders]

    def keep(self, made: Path, final: Path) -> None:
        """Renames a finished folder to its name. If that name exists already, its content is the same, and it stays."""
        self.keep_all({made: final})

    def keep_all(self, folders: Mapping[Path, Path]) -> None:
        """Renames finished folders, as `keep` does, and waits for the disk once."""
        folders = {made: final for made, final in folders.items() if not final.exists()}
        if not folders:
            return
        # Others must not reach the setuid programs of an image through the store.
        self._store.tree_path("").mkdir(mode=0o700, parents=True, exist_ok=True)
        linux.sync_file_system(str(next(iter(folders))))
        note_stats(*(str(made) for made in folders if (made / "root").exists()))
        for made, final in folders.items():
            try:
                made.rename(final)
            except OSError:
                if not final.exists():
                    raise

    def put_aside(self, folder: Path) -> Path:
        """Takes a folder's name away; where it is now, to be removed. Another process may have done so already."""
        aside = self._store.temporary_path()
        with suppress(FileNotFoundError):
            folder.rename(aside)
        return aside

    def diffs_of_bases(self, bases: Sequence[str]) -> set[Digest]:
        return {diff_id for base in bases for diff_id in self.diffs_of(base)}

    def diffs_of(self, base: str) -> list[Digest]:
        """The archives of a base, the lowest first. Raises FileNotFoundError when it is not here."""
        return (self.base(base) / "diffs").read_text("ascii").split()

    def _manifest(self, folder: Path, what: str, name: str = _MANIFEST) -> Manifest:
        from klock.layers.manifest import Manifest

        return Manifest.of_own(self._content(folder, what, name))

    def _content(self, folder: Path, what: str, name: str = _MANIFEST) -> bytes:
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError:
            raise StoreError(f"{what} is not in the store", hint="run `klock sync`") from None
