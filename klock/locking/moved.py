"""What a new lockfile has in another version than the one before: the lines of a review, in short."""

from __future__ import annotations

from collections.abc import Iterator

from klock.lockfile.model import DebianLock, Lockfile, OciLock, TargetLock
from klock.steps import kind_of

__all__ = ["moved"]


def moved(before: Lockfile, after: Lockfile) -> Iterator[str]:
    """`update numpy 2.0 -> 2.1`, `add x 1.0`, `remove y 1.0`, each once, of the targets that both have."""
    said: set[str] = set()
    for target in after.targets:
        old = before.for_target(target.target)
        if old is None:
            continue
        for line in _moved(_versions(old), _versions(target)):
            if line not in said:
                said.add(line)
                yield line


def _moved(old: dict[str, str], new: dict[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"remove {name} {old[name]}"
        elif name not in old:
            yield f"add {name} {new[name]}"
        elif old[name] != new[name]:
            yield f"update {name} {old[name]} -> {new[name]}"


def _versions(target: TargetLock) -> dict[str, str]:
    """By name, the versions of what has versions: Python packages, Debian's, and the base by its digest."""
    found = {package.name: package.version for package in target.packages}
    base = target.base
    if isinstance(base, OciLock):
        found[base.reference] = (base.index_digest or base.manifest.digest)[:19]
    if isinstance(base, DebianLock):
        found |= {f"{deb.name} (Debian)": deb.version for deb in base.debs}
    for step in target.steps:
        found |= kind_of(step).versions(step)
    return found
