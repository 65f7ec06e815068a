"""What an overlay's upper folder changes of the tree below it, as a manifest: read, and not brought into any form."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from klock.layers.canonical import is_opaque
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import is_left_out
from klock.layers.scan import digests_of_files, entry_of, is_whiteout, text_of

__all__ = ["changes_in"]


def changes_in(upper: bytes, lower: bytes) -> Manifest:
    """The entries of `upper`, and whiteouts for what it hides of `lower`; without what no layer holds.

    Applied to the manifest of `lower` it gives that of the two mounted together (the kernel's
    filesystems/overlayfs.rst). Only `upper` is walked; of `lower` the folders are listed that are hidden.
    """
    found = list(_walk(upper, lower))
    files = [(path, status.st_size) for path, _, status in found if status is not None and stat.S_ISREG(status.st_mode)]
    digests = dict(zip((path for path, _ in files), digests_of_files(files), strict=True))
    entries = (
        Entry(path=path, kind=Kind.WHITEOUT)
        if status is None
        else entry_of(on_disk, path, status, digest=digests.get(on_disk))
        for on_disk, path, status in found
    )
    return Manifest(entry for entry in entries if entry)


def _walk(upper: bytes, lower: bytes) -> Iterator[tuple[bytes, str, os.stat_result | None]]:
    """Each path with its stat, or with None where it is hidden."""
    # Each folder, and whether one above it hides all of `lower`.
    waiting = [(b"", False)]
    while waiting:
        above, opaque = waiting.pop()
        names = os.listdir(upper + b"/" + above)
        opaque = opaque or is_opaque(upper + b"/" + above)
        if opaque:
            for name in set(_names_in(lower + b"/" + above)) - set(names):
                yield b"", text_of(above + name), None
        for name in names:
            path, on_disk = above + name, upper + b"/" + above + name
            if is_left_out(text_of(path)):
                continue
            status = os.lstat(on_disk)
            yield on_disk, text_of(path), None if is_whiteout(status) else status
            if stat.S_ISDIR(status.st_mode):
                waiting.append((path + b"/", opaque))


def _names_in(folder: bytes) -> list[bytes]:
    try:
        return [name for name in os.listdir(folder) if not os.path.islink(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
