"""Says which step installs which of the locked packages, and what that means for the distributions of the base."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from klock.errors import HashMismatch
from klock.lockfile.model import LocalProject, LockedPackage, VcsArtifact
from klock.packages.interpreter import TargetPython
from klock.packages.replacing import replacements
from klock.packages.resolver import Answer
from klock.packages.roots import Root, same_repository
from klock.packages.selection import SelectedFolder
from klock.packages.wheels import closure, metadata_of, required_names, wheel_of
from klock.store import Store

__all__ = ["Resolution", "check_hashes", "place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """`steps` and `projects` have one entry for each pip step: the pins it installs, and the local projects.

    `packages` are all that any step or build needs, by name. `warnings` are sentences for people: a yanked version, a
    distribution of the base that no longer fits; `replacements` are such sentences on what replaces the base's own.
    """

    packages: tuple[LockedPackage, ...]
    steps: tuple[tuple[str, ...], ...]
    projects: tuple[tuple[LocalProject, ...], ...]
    warnings: tuple[str, ...] = ()
    replacements: tuple[str, ...] = ()


def place(
    number_of_steps: int,
    roots: Sequence[Root],
    packages: Sequence[LockedPackage],
    answer: Answer,
    *,
    python: TargetPython,
    store: Store,
) -> Resolution:
    """Gives each package to the first step whose roots lead to it, by the metadata of the wheels themselves.

    Packages that no root leads to are left out; `projects` of the result are empty.
    """
    requires: dict[str, Sequence[str]] = {item.name: item.requires for item in python.installed}
    for package in packages:
        requires[package.name] = metadata_of(wheel_of(package), store).requires
    asked = [_roots_of_step(number, roots, answer) for number in range(number_of_steps)]
    reached = [closure(step, requires, markers=python.markers) for step in asked]
    extras: dict[str, frozenset[str]] = {}
    for step in reached:
        for name, more in step.items():
            extras[name] = extras.get(name, frozenset()) | more
    by_name = {package.name: package for package in packages if package.name in extras}
    placed: set[str] = set()
    steps = []
    for step in reached:
        names = sorted(name for name in step if name in by_name and name not in placed)
        placed.update(names)
        steps.append(tuple(by_name[name].pin for name in names))
    locked = tuple(
        replace(
            package,
            dependencies=tuple(sorted(required_names(requires[name], markers=python.markers, extras=extras[name]))),
            replaces=python.versions.get(name),
        )
        for name, package in sorted(by_name.items())
    )
    return Resolution(
        packages=locked,
        steps=tuple(steps),
        projects=((),) * number_of_steps,
        warnings=(*answer.warnings, *_broken(locked, python)),
        replacements=tuple(replacements(locked, roots, requires, python)),
    )


def check_hashes(roots: Sequence[Root], packages: Sequence[LockedPackage], answer: Answer, store: Store) -> None:
    """Raises HashMismatch when a package's artifact, which is in the store, has none of the hashes of its line.

    Of another algorithm than SHA-256 that can only be said by its bytes.
    """
    by_name = {package.name: package for package in packages}
    for root in roots:
        package = by_name.get(root.name or _name_of_direct(root, answer) or "")
        if package is None or not root.scoped.hashes:
            continue
        artifact = package.artifact
        sha256 = None if isinstance(artifact, VcsArtifact) else artifact.sha256
        found = {f"sha256:{sha256}"}
        if sha256 and any(not h.startswith("sha256:") for h in root.scoped.hashes):
            content = store.blob_path(f"sha256:{sha256}").read_bytes()
            algorithms = {h.partition(":")[0] for h in root.scoped.hashes}
            found |= {f"{a}:{hashlib.new(a, content, usedforsecurity=False).hexdigest()}" for a in algorithms}
        if not found & {*root.scoped.hashes}:
            raise HashMismatch(
                f"{root.scoped.origin}: {package.pin} is {wheel_of(package).name} with sha256:{sha256}, "
                "which its line does not allow",
                hint="find out who changed the file upstream before you change the hash",
            )


def _roots_of_step(number: int, roots: Sequence[Root], answer: Answer) -> dict[str, frozenset[str]]:
    """The projects that a step asks for, with the extras of each."""
    found: dict[str, frozenset[str]] = {}
    for root in roots:
        name = root.name or _name_of_direct(root, answer)
        if root.step == number and name is not None:
            found[name] = found.get(name, frozenset()) | root.extras
    return found


def _name_of_direct(root: Root, answer: Answer) -> str | None:
    for package in answer.packages:
        source = package.source
        if not isinstance(source, SelectedFolder) and package.direct and same_repository(root.scoped.text, source.url):
            return package.name
    return None


def _broken(packages: Sequence[LockedPackage], python: TargetPython) -> Iterator[str]:
    """As pip does, the base's own distributions that a replaced one leaves without what they require."""
    new = {package.name: package.version for package in packages}
    for item in python.installed:
        for text in item.requires if item.name not in new else ():
            try:
                requirement = Requirement(text)
                version = new.get(canonicalize_name(requirement.name))
                if version is None or requirement.specifier.contains(version, prereleases=True):
                    continue
            except (InvalidRequirement, InvalidVersion):
                continue
            if requirement.marker and not requirement.marker.evaluate({**python.markers, "extra": ""}):
                continue
            yield (
                f"{item.name} {item.version} of the base requires {requirement.name}{requirement.specifier}, "
                f"but {version} is going to be installed"
            )
