"""The unpacked layers and bases of the store: folders under `trees/`, each made whole in a scratch folder and renamed.

trees/diff-<hex>/root        one archive of a base image, unpacked as it is; shared by bases
trees/base-<hex>/            `diffs` (the archives of a base, the lowest first) and `manifest` (all it shows)
trees/layer-<hex>/root       the layer of a step in canonical form, and `manifest`

Beside each root there is `stats`, by which a change is seen (`klock.tree_stats`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klock.digests import Digest, hex_of
from klock.errors import StoreError
from klock.store import Store
from klock.tree_stats import note_stats
from klock.workshop import linux

if TYPE_CHECKING:
    from klock.layers.manifest import Manifest

__all__ = ["Trees"]


class Trees:
    def __init__(self, store: Store) -> None:
        self._store = store

    def diff(self, diff_id: Digest) -> Path:
        return self._store.tree_path(f"diff-{hex_of(diff_id)}")

    def base(self, base: str) -> Path:
        return self._store.tree_path(f"base-{hex_of(base)}")

    def layer(self, layer: Digest) -> Path:
        return self._store.tree_path(f"layer-{hex_of(layer)}")

    def has_base(self, base: str) -> bool:
        try:
            return all(self.diff(diff_id).exists() for diff_id in self.diffs_of(base))
        except FileNotFoundError:
            return False

    def base_manifest(self, base: str) -> Manifest:
        return self._manifest(self.base(base), f"the base {base}")

    def layer_manifest(self, layer: Digest) -> Manifest:
        folder = self.layer(layer)
        manifest = self._manifest(folder, f"the layer {layer}")
        if manifest.digest != layer:
            raise StoreError(
                f"the layer {layer} was changed in the store", hint=f"remove {folder}, then run `klock sync`"
            )
        return manifest

    def stack(self, base: str, layers: Sequence[Digest]) -> list[Path]:
        """The folders to mount for a base and layers, the lowest first. Raises StoreError when one is not here."""
        try:
            folders = [self.diff(diff_id) for diff_id in self.diffs_of(base)]
        except FileNotFoundError:
            raise StoreError(f"the base {base} is not in the store", hint="run `klock sync`") from None
        folders += [self.layer(layer) for layer in layers]
        for folder in folders:
            if not folder.exists():
                raise StoreError(f"{folder.name} is not in the store", hint="run `klock sync`")
        return [folder / "root" for folder in folders]

    def keep(self, made: Path, final: Path) -> None:
        """Renames a finished folder to its name. If that name exists already, its content is the same, and it stays."""
        # Others must not reach the setuid programs of an image through the store.
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        linux.sync_file_system(str(made))
        if (made / "root").exists():
            note_stats(str(made))
        try:
            made.rename(final)
        except OSError:
            if not final.exists():
                raise

    def put_aside(self, folder: Path) -> Path:
        """Takes a folder's name away; where it is now, to be removed."""
        aside = self._store.temporary_path()
        folder.rename(aside)
        return aside

    def diffs_of_bases(self, bases: Sequence[str]) -> set[Digest]:
        return {diff_id for base in bases for diff_id in self.diffs_of(base)}

    def diffs_of(self, base: str) -> list[Digest]:
        """The archives of a base, the lowest first. Raises FileNotFoundError when it is not here."""
        return (self.base(base) / "diffs").read_text("ascii").split()

    def _manifest(self, folder: Path, what: str) -> Manifest:
        from klock.layers.manifest import Manifest

        try:
            return Manifest.from_bytes((folder / "manifest").read_bytes())
        except FileNotFoundError:
            raise StoreError(f"{what} is not in the store", hint="run `klock sync`") from None
