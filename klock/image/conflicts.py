"""Conflict markers that git leaves in a file where two branches changed the same lines (git-merge(1))."""

from __future__ import annotations

__all__ = ["conflict_in"]


def conflict_in(text: str, name: str, *, lockfile: str = "kimage.lock") -> tuple[str, str] | None:
    """What to say of a file that has conflict markers in it, and what to do; None where there are none.

    `name` is what messages call the file.
    """
    lines = text.splitlines()
    number = next((number for number, line in enumerate(lines, 1) if line.startswith("<<<<<<< ")), None)
    if number is None:
        return None
    return (
        f"{name}:{number}: git left a merge conflict here",
        f"choose between the two sides, then: git checkout --ours {lockfile} && klock lock && git add {name} "
        f"{lockfile}; `klock merge-driver --install` has git merge lockfiles by klock",
    )
