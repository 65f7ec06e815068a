"""`klock merge-driver`: merges the lockfile of two branches, as git asks for it (gitattributes(5), "merge")."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.errors import KlockError
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.lockfile.model import Lockfile
    from klock.locking.merging import Merged
    from klock.progress import Progress
    from klock.session import Session

__all__ = ["ATTRIBUTE", "DRIVER", "MergeOutcome", "install", "merge_files"]

_ARGUMENTS: Final = "merge-driver %O %A %B %P"
DRIVER: Final = f"klock {_ARGUMENTS}"
ATTRIBUTE: Final = "kimage*.lock merge=klock"
_NAME: Final = re.compile(r"kimage(?:\.(?P<name>[A-Za-z_]\w*))?\.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOutcome:
    """`is_clean`: the result is what `klock lock` gives. Else `dependent` says what both sides changed, and `theirs`
    names our packages that only the other side moved. `relocked`: klock has locked both sides again, together."""

    is_clean: bool
    relocked: bool = False
    dependent: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()


def merge_files(ancestor: Path, ours: Path, theirs: Path, lockfile: Path, *, progress: Progress) -> MergeOutcome:
    """Merges `theirs` into `ours`, which is written. `lockfile` is where the result will be: beside its image.

    What is not independent is locked again if the image file, as it is now, is what both sides locked; else `ours` has
    our side of it. Raises LockfileError for what is not a lockfile.
    """
    from klock.lockfile import read, write
    from klock.locking.merging import merge

    # Both sides may have made the file: then git gives an empty one.
    before = read(ancestor) if ancestor.stat().st_size else None
    mine, other = read(ours), read(theirs)
    if mine is None or other is None:
        raise KlockError("a side of the merge is not there", hint="git runs `klock merge-driver %O %A %B %P`")
    merged = merge(before, mine, other)
    if not merged.dependent:
        write(merged.lockfile, ours)
        return MergeOutcome(is_clean=True)
    again = _locked_again(merged, mine, other, lockfile, progress)
    write(again or merged.lockfile, ours)
    return MergeOutcome(
        is_clean=again is not None, relocked=again is not None, dependent=merged.dependent, theirs=merged.theirs
    )


def _locked_again(
    merged: Merged, ours: Lockfile, theirs: Lockfile, lockfile: Path, progress: Progress
) -> Lockfile | None:
    """The image locked with the packages of both sides; None where the image file is not what both locked, as while git
    has not merged it yet, or cannot be locked."""
    from klock.locking import lock_image
    from klock.steps.locking import Upgrade

    session = _session(lockfile, progress)
    if session is None:
        return None
    try:
        if session.stale_findings(ours) or session.stale_findings(theirs):
            return None
        with session.store.in_use():
            return lock_image(
                session.loaded.image,
                [target.target for target in merged.lockfile.targets],
                previous=merged.preferred,
                context=session.context,
                # Of a package that is none: nothing is upgraded, and nothing is taken over without being resolved.
                upgrade=Upgrade(packages=frozenset({"-"})),
            )
    except KlockError as error:
        progress.warn(error.message)
        return None


def _session(lockfile: Path, progress: Progress) -> Session | None:
    from klock.session import open_session

    match = _NAME.fullmatch(lockfile.name)
    files = [lockfile.with_name(name) for name in ("kimage.py", "Dockerfile", "Containerfile")]
    file = next((each for each in files if each.is_file()), None)
    if match is None or file is None:
        return None
    try:
        image = f"{file}:{match['name']}" if match["name"] else file
        return open_session(image, lockfile=lockfile, progress=progress)
    except KlockError as error:
        progress.warn(error.message)
        return None


def install(folder: Path, *, locally: bool = False) -> Path:
    """Has the repository that `folder` is in use the driver; returns the file of attributes, which is to be committed,
    or with `locally` this clone's own. Raises KlockError."""
    found = _git(folder, "rev-parse", "--show-toplevel")
    _git(folder, "config", "merge.klock.name", "merges lockfiles of klock")
    # In a virtual environment that is not active, git would not find the program.
    driver = DRIVER if shutil.which("klock") else f"{shlex.quote(sys.executable)} -m klock {_ARGUMENTS}"
    _git(folder, "config", "merge.klock.driver", driver)
    attributes = Path(found) / ".gitattributes"
    if locally:
        attributes = Path(found) / _git(Path(found), "rev-parse", "--git-path", "info/attributes")
        attributes.parent.mkdir(exist_ok=True)
    text = attributes.read_text("utf-8") if attributes.exists() else ""
    line = ATTRIBUTE
    if line not in text.splitlines():
        attributes.write_text(text + ("" if not text or text.endswith("\n") else "\n") + line + "\n", "utf-8")
    return attributes


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", os.fspath(folder), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise KlockError("to install the merge driver, klock needs git", hint="install git") from None
    if done.returncode != 0:
        raise KlockError(f"git {words[0]} failed: {done.stderr.strip()}", hint="run it inside of a git repository")
    return done.stdout.strip()
