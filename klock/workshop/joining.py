"""Joins trees that are too many to be mounted one upon the other: the kernel stacks 500 folders in one overlay.

Files are linked, not copied. A link changes the ctime of a file, by which a change in the store is seen, so such trees
are read again once; that is why it is done only where it must be.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from klock.layers.composing import Part, compose
from klock.layers.manifest import Manifest
from klock.workshop.protocol import FileTree

__all__ = ["AT_ONCE", "MOST", "join"]

MOST: Final = 300
"""How many trees of one layer are mounted: a base and other layers have room beside them."""

AT_ONCE: Final = 25
"""How many become one."""


def join(trees: Sequence[FileTree], roots: Sequence[Path], root: Path) -> tuple[Manifest, Manifest]:
    """Makes at `root`, which is not there, what `roots` show one upon the other, the lowest first.

    What is locked of it, and what is derived.
    """
    root.mkdir()
    root.chmod(0o755)
    known = {""}
    for tree, source in zip(trees, roots, strict=True):
        for path in (*tree.files, *tree.derived):
            _make_folder(root, path.rpartition("/")[0], known)
            (root / path).unlink(missing_ok=True)
            os.link(source / path, root / path, follow_symlinks=False)
    parts = [Part(name="", manifest=tree.files) for tree in trees]
    derived = [Part(name="", manifest=tree.derived) for tree in trees]
    return compose(parts)[0], compose(derived)[0]


def _make_folder(root: Path, path: str, known: set[str]) -> None:
    if path in known:
        return
    _make_folder(root, path.rpartition("/")[0], known)
    (root / path).mkdir()
    (root / path).chmod(0o755)
    known.add(path)
