"""The root file system of the container that klock runs in, as something to work in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from klock.digests import Digest
from klock.errors import EngineError, FetchError
from klock.layers.manifest import Kind, Manifest
from klock.layers.pack import paths_in, unpack_layer
from klock.places.here.materials import put, remove
from klock.places.here.state import FOLDER
from klock.places.here.step_paths import StepPaths
from klock.places.here.tree import Tree, on_disk, scan
from klock.places.here.workspace import HereWorkspace
from klock.store import Store
from klock.workshop.protocol import Command
from klock.workshop.scratch import scratch_folder

__all__ = ["Root"]


class Root:
    """The container's root file system: looked at, worked in, and changed file by file."""

    def __init__(self, store: Store, *, ca_bundle: Path | None = None) -> None:
        """`ca_bundle`: certificates that commands with the host's network trust."""
        self._store = store
        self._ca_bundle = ca_bundle

    @cached_property
    def why_plain(self) -> str | None:
        """Why commands cannot be isolated in this container; None where they can."""
        try:
            with scratch_folder(self._store) as folder:
                workspace = HereWorkspace(Tree({}), without=(), scratch=folder, why_plain=None, ca_bundle=None)
                ended = workspace.run(Command(argv=("/bin/true",), environment={"PATH": "/usr/bin:/bin"}))
        except (EngineError, OSError) as error:
            return str(error)
        return None if ended.status == 0 else ended.output.decode("utf-8", "replace").strip()

    @property
    def without(self) -> tuple[Path, ...]:
        """What of the root is klock's and no part of the environment: its notes, its store, its own installation."""
        package = Path(__file__).resolve().parents[2]
        own = [FOLDER.parent, self._store.root.resolve()]
        if sys.prefix != sys.base_prefix:
            own.append(Path(sys.prefix).resolve())
        elif "site-packages" not in package.parts and "dist-packages" not in package.parts:
            own.append(package)
        return tuple(own)

    def scan(self, known: Tree | None = None) -> Tree:
        return scan(known, without=self.without)

    @contextmanager
    def open(self, before: Tree, own: StepPaths | None = None) -> Iterator[HereWorkspace]:
        """A workspace on the container's root, which looks as `before` says or was changed by a step cut short.

        `own` are the paths that can be changed in it, where they are known.
        """
        with scratch_folder(self._store) as folder:
            yield HereWorkspace(
                before,
                without=self.without,
                scratch=folder,
                why_plain=self.why_plain,
                ca_bundle=self._ca_bundle,
                own=own,
            )

    def paths_in(self, archive: Path) -> list[str]:
        """The paths that `apply` is going to change."""
        with open(archive, "rb") as file:
            return paths_in(file, source=f"the archive {archive.name}")

    def apply(self, archive: Path, layer: Digest) -> None:
        """Brings a layer, as `write_layer` wrote it, into the root, file by file. Raises HashMismatch before that."""
        with scratch_folder(self._store) as folder:
            root = folder / "root"
            root.mkdir()
            root.chmod(0o755)
            manifest = _unpacked(archive, layer, root)
            for path in sorted(manifest, key=lambda path: (manifest[path].kind is Kind.HARDLINK, path)):
                if manifest[path].kind is Kind.WHITEOUT:
                    remove(path)
                else:
                    put(manifest[path], source=root / os.fsdecode(on_disk(path)[1:]))


def _unpacked(archive: Path, layer: Digest, root: Path) -> Manifest:
    """Unpacks in a process whose root is `root`, so that no member can lead out of it."""
    from klock.forks import in_fork
    from klock.workshop.unpacking import unpack_in_root

    def unpacked(file: BinaryIO) -> bytes:
        return unpack_layer(file, layer=layer, source=f"the archive {archive.name}").to_bytes()

    try:
        return Manifest.from_bytes(in_fork(lambda: unpack_in_root(archive, root, unpacked)))
    except PermissionError as error:
        raise FetchError(
            f"a layer cannot be unpacked in this container: {error}",
            hint="start the container with the capability SYS_CHROOT",
        ) from error
