"""A base made in the workshop: packages are unpacked into an empty writable layer and configured there by their own
programs, and the layer becomes the base as it stands, without a copy.

Nothing of the machine has a part in it but the kernel: who unpacks is klock, who runs is confined like any step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO, Final, cast

from klock.forks import Tally
from klock.layers.canonical import canonicalise
from klock.layers.manifest import Manifest
from klock.layers.unpack import unpack_package
from klock.workshop.namespace import in_namespace
from klock.workshop.overlay import Area
from klock.workshop.protocol import PackageFiles
from klock.workshop.unpacking import unpack_in_root
from klock.workshop.workspace import SandboxWorkspace

__all__ = ["SandboxNewBase"]

_EXPANSION: Final = 100
"""How many times its size a package may unpack to: ten times is much for a real one."""
_ALLOWED: Final = 256 << 20
"""The bytes to which any package may unpack, however small it is."""


class SandboxNewBase(SandboxWorkspace):
    """`klock.workshop.protocol.NewBase`."""

    def unpack(self, packages: Sequence[PackageFiles]) -> None:
        """Unpacks packages over what is there; see `klock.workshop.protocol.NewBase`."""
        upper = self._writable.upper

        def task() -> None:
            files = [open(package.path, "rb") for package in packages]  # noqa: SIM115 (this process ends)
            for package, file in zip(packages, files, strict=True):
                file.seek(package.offset)

            def unpacked(_: BinaryIO) -> None:
                for package, file in zip(packages, files, strict=True):
                    unpack_package(
                        cast("IO[bytes]", _Part(file, package.size)),
                        media_type=package.media_type,
                        limit=max(_ALLOWED, _EXPANSION * package.size),
                        source=package.name,
                    )

            unpack_in_root(Path(os.devnull), upper, unpacked)

        in_namespace(task)

    def finish(self, tally: Tally | None = None) -> Manifest:
        """Brings the tree into canonical form; see `klock.workshop.protocol.NewBase`."""
        made = self._made()
        made.mkdir(mode=0o700)

        def task() -> bytes:
            nothing = Area.create(self._area).mount_to_read(())
            upper = self._writable.upper
            layer = canonicalise(os.fsencode(upper), os.fsencode(nothing), tally=tally)
            os.chown(upper, 0, 0)
            upper.chmod(0o755)
            upper.rename(made / "root")
            return Manifest().apply(layer).to_bytes()

        self._manifest = Manifest.from_bytes(in_namespace(task))
        return self._manifest

    def keep(self, base: str) -> None:
        """Keeps the finished tree as the base of this id."""
        digest = self._manifest.digest
        described = self._folder / "base"
        described.mkdir(mode=0o700)
        (described / "manifest").write_bytes(self._manifest.to_bytes())
        (described / "diffs").write_text(f"{digest}\n", "ascii")
        self._trees.keep_all({self._made(): self._trees.diff(digest), described: self._trees.base(base)})

    def _made(self) -> Path:
        return self._folder / "tree"


class _Part:
    """The next `size` bytes of an open file, to read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        return chunk
