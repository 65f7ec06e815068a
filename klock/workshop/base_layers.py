"""The archives of a base, unpacked side by side on every core, while others of them are still on their way."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

from klock.digests import Digest
from klock.errors import StoreError
from klock.forks import Tally, map_in_forks
from klock.layers.unpack import unpack
from klock.progress import Progress
from klock.workshop.namespace import in_namespace
from klock.workshop.protocol import BaseLayer
from klock.workshop.unpacking import counted, unpack_in_root

__all__ = ["unpack_layers"]

_POLL: Final = 0.02
"""Seconds."""


def unpack_layers(
    layers: Mapping[Path, BaseLayer], *, fetch: Callable[[], None] | None, progress: Progress
) -> dict[Path, Digest]:
    """Unpacks each archive into `root` in its new folder, one that `fetch` brings as soon as it is there. The digests
    of all, by their folders.

    Raises what `fetch` raises, and HashMismatch and FetchError for what an archive is not.
    """
    sizes = {folder: _size_of(layer) for folder, layer in layers.items()}
    parts = {folder: number for number, folder in enumerate(layers)}
    tally = Tally("bytes", sum(sizes.values()), parts=len(layers))
    klock = os.getpid()
    all_there = mmap.mmap(-1, 1)  # a byte that the processes share

    def unpacked(folder: Path) -> Digest:
        _wait_for(layers[folder].path, all_there, of_process=klock)
        return _unpack(layers[folder], folder, tally, part=parts[folder])

    with ExitStack() as stages:

        def fetched() -> None:
            if fetch is not None:
                fetch()
            all_there[0] = 1
            stages.enter_context(progress.stage("unpack", tally))

        found = map_in_forks(unpacked, list(layers), cost=sizes.__getitem__, meanwhile=fetched)
    return dict(zip(layers, found, strict=True))


def _size_of(layer: BaseLayer) -> int:
    return layer.path.stat().st_size if layer.size is None else layer.size


def _wait_for(archive: Path, all_there: mmap.mmap, *, of_process: int) -> None:
    """Waits for `archive`, which `of_process` brings, the parent of this one. If that ends, so does this one.

    Raises StoreError if all are said to be there, and it is not.
    """
    is_last_look = bool(all_there[0])
    while not archive.exists():
        if is_last_look:
            raise StoreError(f"{archive.name} is no longer in the store", hint="try again: it is fetched anew")
        if os.getppid() != of_process:
            os._exit(1)
        time.sleep(_POLL)
        is_last_look = bool(all_there[0])


def _unpack(layer: BaseLayer, folder: Path, tally: Tally, *, part: int) -> Digest:
    root = folder / "root"
    root.mkdir(parents=True)
    root.chmod(0o755)

    def unpacked(file: BinaryIO) -> Digest:
        return unpack(
            counted(file, tally, part=part),
            media_type=layer.media_type,
            diff_id=layer.diff_id,
            source=layer.path.name,
            limit=layer.limit,
        )

    return in_namespace(lambda: unpack_in_root(layer.path, root, unpacked))
