"""A workspace in which nothing runs finds what one with a tree on disk finds."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes
from klock.files.placed import PlacedFile
from klock.layers.manifest import Manifest
from klock.layers.scan import manifest_of_tree
from klock.store import Store
from klock.workshop.scratch import scratch_folder
from klock.workshop.searching import files_matching
from klock.workshop.still import StillWorkshop, StillWorkspace

FILES = (
    "usr/lib/ld-musl-x86_64.so.1",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/.hidden/libc.so.6",
    "usr/lib/a/b/libc.so.6",
    "etc/apt/apt.conf.d/one",
    "etc/apt/apt.conf.d/two words",
    "etc/apt/apt.conf.d/folder/three",
    "home/joe/.npmrc",
    "home/[x]/.npmrc",
)
LINKS = {"lib": "usr/lib", "usr/lib64": "lib", "loop": "loop", "etc/link": "apt/apt.conf.d/one", "nowhere": "none"}
PATTERNS = (
    "/lib/ld-musl-*.so.1",
    "/usr/lib64/ld-*",
    "/lib/*/libc.so.6",
    "/usr/lib/*/*/libc.so.6",
    "/etc/apt/apt.conf.d/*",
    "/etc/*",
    "/*/joe/.npmrc",
    "/home/*/.npmrc",
    "/home/[x]/.npmrc",
    "/home/[[]x]/.npmrc",
    "/loop/*",
    "/nowhere",
    "/etc/apt/apt.conf.d/[ot]*",
    "/usr/lib",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_files_match_patterns_as_in_a_tree_on_disk(pattern: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    expected = {path.removeprefix(str(root)): text for path, text in files_matching([f"{root}{pattern}"]).items()}
    workshop = StillWorkshop(Store(tmp_path / "store"), why="", hint="")
    placed = {name: root / name for name in FILES}
    workspace = StillWorkspace(workshop, "sha256:" + "0" * 64, manifest_of_tree(os.fsencode(root)), placed)
    assert workspace.read_matching([pattern]) == expected


def test_what_a_step_made_and_placed_is_there_after_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    workshop = StillWorkshop(store, why="", hint="")
    workspace = StillWorkspace(workshop, "sha256:" + "0" * 64, Manifest(()), {})
    with scratch_folder(store) as folder:
        made = folder / "made"
        made.write_bytes(b"made")
        workspace.place([PlacedFile(path="x", mode=0o644, source=made, digest=digest_of_bytes(b"made"))], "/opt")
    assert workspace.read("/opt/x") == b"made"
    del workspace, workshop
    gc.collect()
    assert not list((store.root / "tmp").glob("scratch-*")), "and no longer than it is needed"
