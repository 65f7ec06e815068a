"""A flat apt repository of exactly some .debs (sources.list(5), a suite that ends in a slash), for apt to install from.

The index is made of what each .deb says of itself and of its locked size and hash, so apt checks the bytes once more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from klock.debian.fetch import digest_of
from klock.lockfile.model import DebPackage
from klock.store import Store

__all__ = ["INDEX_SCRIPT", "lay_out"]

INDEX_SCRIPT: Final = """\
for deb in "$repository"/*.deb; do
    dpkg-deb --field "$deb"
    cat "$deb.locked"
    echo
done
"""
"""Prints the index (`Packages`) of the folder `$repository`, with the environment's sh and dpkg."""


def lay_out(debs: Sequence[DebPackage], folder: Path, *, store: Store) -> None:
    """Puts .debs that the store has into `folder`, readable for everyone; hard links where that can be."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder.chmod(0o755)
    for deb in debs:
        name = file_name(deb)
        _link(store.blob_path(digest_of(deb)), folder / name)
        locked = folder / f"{name}.locked"
        locked.write_text(f"Filename: ./{name}\nSize: {deb.size}\nSHA256: {deb.sha256}\n")
        locked.chmod(0o644)


def file_name(deb: DebPackage) -> str:
    # The colon of an epoch means something to apt in a file name.
    return f"{deb.name}_{deb.version.replace(':', '%3a')}_{deb.architecture}.deb"


def _link(source: Path, target: Path) -> None:
    if source.stat().st_mode & 0o444 == 0o444:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(source, target)
    target.chmod(0o644)
