"""A lockfile as git has it in a revision. The user's own git is asked, which alone knows every form of a repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from klock.errors import KlockError, LockfileError
from klock.lockfile.model import Lockfile

__all__ = ["lockfile_in"]

_SECONDS = 60


def lockfile_in(revision: str | None, file: Path) -> Lockfile:
    """What `file` was in a revision (gitrevisions(7)) of the repository that it is in, or in the last commit. Raises
    KlockError."""
    from klock.lockfile.reading import from_text

    was_named, revision = revision is not None, revision or "HEAD"
    name = f"{revision}:./{file.name}"
    if revision.startswith("-") or not file.parent.is_dir():
        raise KlockError(f"{revision!r} is neither a lockfile nor a revision of git")
    # No question to a terminal, and nothing of a partial clone is fetched: klock only looks.
    variables = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C.UTF-8"}
    command = ["git", "-C", str(file.parent), "cat-file", "blob", name]
    try:
        done = subprocess.run(
            command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise KlockError(
            f"to read {file.name} of the revision {revision}, klock needs git", hint="install git, or name two files"
        ) from None
    except subprocess.TimeoutExpired:
        raise KlockError(f"git did not answer within {_SECONDS} s: {' '.join(command)}") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ")
        if not was_named:
            raise KlockError(
                f"there is no {file.name} of an earlier commit to compare with: {said}",
                hint="name a lockfile to compare with, or see what the next sync changes: klock diff --env",
            )
        raise KlockError(
            f"{revision} is not a file, and as a revision of git it has no {file.name}: {said}",
            hint=f"name two lockfiles, or revisions that have one: git log -- {file.name}",
        )
    try:
        return from_text(done.stdout.decode("utf-8"), name)
    except LockfileError as error:
        # What helps with a file of the work tree does not change a commit.
        raise LockfileError(error.message, hint=f"look at it: git show {name}") from None
    except UnicodeDecodeError as error:
        raise KlockError(f"{name} is not a lockfile: {error}") from None
