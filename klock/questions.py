"""The verbs that only look: what changed between two lockfiles, why something is there, all of it as a tree.

They change nothing, run nothing of an image, and use no network. As in `klock.api`, nothing is printed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from klock.errors import LockfileError
from klock.session import Options

if TYPE_CHECKING:
    from klock.inventory.changes import Difference
    from klock.lockfile.model import Lockfile

__all__ = ["diff"]


def diff(
    before: str | os.PathLike[str] | None = None,
    after: str | os.PathLike[str] | None = None,
    *,
    image: str | os.PathLike[str] | None = None,
    **options: Unpack[Options],
) -> Difference:
    """What the lockfile `after` has otherwise than `before`.

    Each is a lockfile or a revision of git. Without `after` it is the lockfile as it is now, without `before` that of
    the last commit (`HEAD`). Raises KlockError for what is neither.
    """
    from klock.inventory.changes import compare

    file = _lockfile(image, options)
    old = _named("HEAD" if before is None else before, file)
    return compare(old, _read(file) if after is None else _named(after, file))


def _lockfile(image: str | os.PathLike[str] | None, options: Options) -> Path:
    """The lockfile of an image, which is not loaded."""
    from klock.image.loading import lockfile_of
    from klock.project import find_image

    if "lockfile" in options:
        return Path(options["lockfile"]).absolute()
    return lockfile_of(find_image(None if image is None else os.fspath(image)))


def _named(name: str | os.PathLike[str], file: Path) -> Lockfile:
    from klock.revisions import lockfile_in

    path = Path(name)
    return _read(path.absolute()) if path.is_file() else lockfile_in(os.fspath(name), file)


def _read(file: Path) -> Lockfile:
    from klock.lockfile import read

    lock = read(file)
    if lock is None:
        raise LockfileError(f"there is no {file.name} in {file.parent}", hint="run `klock lock`")
    return lock
