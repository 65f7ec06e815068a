"""Finds trees of the store that were changed since they were made, and takes them away, so that they are made again.

Asked once a process for each tree. Most often their stats say that nothing changed (`klock.tree_stats`); where they do
not, because somebody wrote into a tree or copied the store, every byte is read and compared with the manifest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klock.digests import Digest
from klock.errors import StoreError
from klock.tree_stats import is_as_noted, note_stats
from klock.workshop.namespace import in_namespace
from klock.workshop.overlay import Area
from klock.workshop.scratch import remove_trees
from klock.workshop.trees import Trees

if TYPE_CHECKING:
    from klock.layers.manifest import Manifest

__all__ = ["NotedTrees", "WholeTrees"]


class NotedTrees:
    """What the store has by its notes: nothing of it is looked at. Where the notes are not all there, `looking` does:
    what is left of a tree whose removal was cut short is no tree."""

    def __init__(self, trees: Trees, looking: WholeTrees) -> None:
        self._trees = trees
        self._looking = looking

    def has_base(self, base: str) -> bool:
        is_noted = self._trees.has_base(base) and (self._trees.base(base) / "manifest").exists()
        return (is_noted and all(map(_has_root, map(self._trees.diff, self._trees.diffs_of(base))))) or (
            self._looking.has_base(base)
        )

    def has_layer(self, layer: Digest) -> bool:
        is_noted = (self._trees.layer(layer) / "manifest").exists()
        return (is_noted and all(map(_has_root, self._trees.folders_of(layer)))) or self._looking.has_layer(layer)

    def has_diff(self, diff_id: Digest) -> bool:
        return self._looking.has_diff(diff_id)

    def has_tree(self, key: Digest) -> bool:
        folder = self._trees.tree(key)
        return ((folder / "digests").exists() and _has_root(folder)) or self._looking.has_tree(key)

    def has_cover(self, digest: Digest) -> bool:
        folder = self._trees.cover(digest)
        return ((folder / "manifest").exists() and _has_root(folder)) or self._looking.has_cover(digest)


def _has_root(folder: Path) -> bool:
    return (folder / "root").exists()


class WholeTrees:
    """`area` is where namespace processes mount."""

    def __init__(self, trees: Trees, area: str) -> None:
        self._trees = trees
        self._area = area
        self._known: set[Path] = set()

    def has_layer(self, layer: Digest) -> bool:
        """Whether the store has a layer that is what its digest says."""
        parts = self._trees.parts_of(layer)
        if parts is not None:
            return all(self._has_folder(part) for part in parts)
        folder = self._trees.layer(layer)
        return self._has_folder(folder, lambda: self._trees.layer_manifest(layer))

    def has_tree(self, key: Digest) -> bool:
        return self._has_folder(self._trees.tree(key))

    def has_cover(self, digest: Digest) -> bool:
        return self._has_folder(self._trees.cover(digest))

    def _has_folder(self, folder: Path, read: Callable[[], Manifest] | None = None) -> bool:
        """Whether a folder of the store has a `root` that is what its own notes, or `read`, say."""
        if self._is_known(folder):
            return True
        if not folder.exists():
            return False

        def is_whole() -> bool:
            try:
                manifest = read() if read is not None else self._trees.noted_manifest(folder)
            except StoreError:
                return False
            root = os.fsencode(folder / "root")
            return os.path.isdir(root) and _holds(root, manifest)

        return self._settled([folder], is_whole)

    def has_diff(self, diff_id: Digest) -> bool:
        """Whether an archive of a base is unpacked, by its stats: nothing else says what its files were."""
        folder = self._trees.diff(diff_id)
        before = _inode(folder)
        if before is None:
            return False
        if self._is_known(folder):
            return True
        self._take_away([folder], [before])
        return False

    def has_base(self, base: str) -> bool:
        """Whether the store has a base that shows what its manifest says."""
        if not self._trees.has_base(base):
            return False
        diffs = list(dict.fromkeys(map(self._trees.diff, self._trees.diffs_of(base))))
        unknown = [folder for folder in diffs if not self._is_known(folder)]
        if not unknown:
            return True

        def is_whole() -> bool:
            from klock.layers.scan import manifest_of_tree

            lower = Area.create(self._area).mount_to_read([folder / "root" for folder in diffs])
            return manifest_of_tree(os.fsencode(lower)).to_bytes() == (self._trees.base(base) / "manifest").read_bytes()

        return self._settled(unknown, is_whole)

    def _is_known(self, folder: Path) -> bool:
        if folder in self._known and folder.exists():
            return True
        if is_as_noted(str(folder)):
            self._known.add(folder)
            return True
        return False

    def _settled(self, folders: Sequence[Path], look: Callable[[], bool]) -> bool:
        before = [_inode(folder) for folder in folders]
        is_whole = in_namespace(look)
        if is_whole:
            note_stats(*map(str, folders))
            self._known.update(folders)
        else:
            self._take_away(folders, before)
        return is_whole

    def _take_away(self, folders: Sequence[Path], before: Sequence[int | None]) -> None:
        # Another process may have found the same, and made one anew meanwhile.
        same = [folder for folder, inode in zip(folders, before, strict=True) if inode == _inode(folder)]
        # From its name first: nobody may find half of it.
        remove_trees([self._trees.put_aside(folder) for folder in same])


def _inode(folder: Path) -> int | None:
    try:
        return folder.lstat().st_ino
    except FileNotFoundError:
        return None


def _holds(root: bytes, manifest: Manifest) -> bool:
    """Whether a layer's folder holds what its manifest says, and nothing else."""
    from klock.layers.manifest import Kind
    from klock.layers.scan import digests_of_files, entry_of

    files: list[tuple[bytes, int]] = []
    for entry in manifest.values():
        on_disk = os.path.join(root, os.fsencode(entry.path))
        try:
            status = os.lstat(on_disk)
        except OSError:
            return False
        if entry.kind is Kind.FILE:
            files.append((on_disk, status.st_size))
        # Of a hard link and of a whiteout the entry says something else than what lies there.
        is_plain = entry.kind in (Kind.FILE, Kind.FOLDER, Kind.SYMLINK, Kind.FIFO)
        if is_plain and entry_of(on_disk, entry.path, status, digest=entry.digest) != entry:
            return False
        if entry.kind is Kind.HARDLINK and entry.target is not None:
            target = os.path.join(root, os.fsencode(entry.target))
            if not os.path.lexists(target) or not os.path.samestat(status, os.lstat(target)):
                return False
    wanted = [entry.digest for entry in manifest.values() if entry.kind is Kind.FILE]
    return digests_of_files(files) == wanted and _has_no_others(root, manifest)


def _has_no_others(root: bytes, manifest: Manifest) -> bool:
    above = {folder for path in manifest for folder in _folders_above(path)}
    waiting = [(root, "")]
    while waiting:
        folder, start = waiting.pop()
        for entry in os.scandir(folder):
            path = start + os.fsdecode(entry.name)
            if path not in manifest and path not in above:
                return False
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, path + "/"))
    return True


def _folders_above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
