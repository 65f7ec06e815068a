"""What resolution compares: roots with the packages that answer them, and those with the base's own distributions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from klock.digests import hashes_like
from klock.errors import HashMismatch, ResolutionError
from klock.lockfile.model import LocalProject, LockedPackage, SdistArtifact, VcsArtifact, WheelArtifact
from klock.packages.interpreter import TargetPython
from klock.packages.resolver import Answer
from klock.packages.roots import Root, same_repository
from klock.packages.selection import SelectedFile, SelectedFolder, SelectedPackage, SelectedRepository
from klock.packages.wheels import WheelMetadata, required_names, wheel_of
from klock.store import Store
from klock.words import first_of

__all__ = ["broken", "builders_of", "check_hashes", "check_names", "is_same", "roots_of_step", "strays", "unfit_for"]


def check_names(package: LockedPackage, metadata: WheelMetadata) -> None:
    """Raises ResolutionError for a wheel that is of another project or version than its file's name says."""
    if metadata.name == package.name and _same_version(metadata.version, package.version):
        return
    raise ResolutionError(
        f"{wheel_of(package).name} says of itself that it is {metadata.name} {metadata.version}, and not {package.pin}",
        hint="it is broken or forged, and pip and uv refuse it too: ask for another version, and tell its index",
    )


def _same_version(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def strays(
    chosen: Iterable[SelectedPackage],
    reached: Mapping[str, frozenset[str]],
    requires: Mapping[str, Sequence[str]],
    python: TargetPython,
    *,
    locked: Collection[str],
) -> Iterator[str]:
    """Where wheels say otherwise than their index what they require: what is missing, and what nothing requires. What
    is in `locked`, the lock of another tool, need not have what it requires."""
    names = {package.name for package in chosen}
    for name in sorted(names - reached.keys()):
        yield f"{name} is not installed: an index says that a package requires it, and the package does not say so"
    for name in sorted(names & reached.keys() - {*locked}):
        required = required_names(requires[name], markers=python.markers, extras=reached[name])
        if missing := sorted(required.keys() - names - python.versions.keys() - requires.keys()):
            yield f"{name} requires {first_of(missing)}, which is not installed: its index does not say so"


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
            found |= {*hashes_like(root.scoped.hashes, store.blob_path(f"sha256:{sha256}")).values()}
        if not found & {*root.scoped.hashes}:
            raise HashMismatch(
                f"{root.scoped.origin}: {package.pin} is {wheel_of(package).name} with sha256:{sha256}, "
                "which its line does not allow",
                hint="find out who changed the file upstream before you change the hash",
            )


def is_same(package: LockedPackage, selected: SelectedPackage) -> bool:
    """Whether `selected` is the artifact that is locked, as far as can be said without its bytes."""
    artifact, source = package.artifact, selected.source
    if isinstance(artifact, VcsArtifact):
        locked = (artifact.url, artifact.commit, artifact.subdirectory)
        return isinstance(source, SelectedRepository) and (source.url, source.commit, source.subdirectory) == locked
    if not isinstance(source, SelectedFile) or source.name != artifact.name:
        return False
    if isinstance(artifact, SdistArtifact) and artifact.subdirectory != selected.subdirectory:
        return False
    return source.sha256 == artifact.sha256 if source.sha256 else source.url == artifact.url


def builders_of(
    packages: Sequence[LockedPackage], projects: Sequence[LocalProject], known: Mapping[str, LockedPackage]
) -> list[LockedPackage]:
    """Those of `known`, by pin, that build `packages` and `projects`, and what builds them in turn."""
    found = {package.pin for package in packages}
    pending = [pin for project in projects for pin in project.build]
    pending += [pin for package in packages for pin in _build_of(package)]
    builders = []
    while pending:
        pin = pending.pop()
        if pin not in found:
            found.add(pin)
            builders.append(known[pin])
            pending += _build_of(known[pin])
    return builders


def _build_of(package: LockedPackage) -> Sequence[str]:
    return () if isinstance(package.artifact, WheelArtifact) else package.artifact.build


def roots_of_step(number: int, roots: Sequence[Root], answer: Answer) -> dict[str, frozenset[str]]:
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


def broken(packages: Sequence[LockedPackage], python: TargetPython) -> Iterator[str]:
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


def unfit_for(python: TargetPython, packages: Sequence[LockedPackage], pythons: Mapping[str, str]) -> Iterator[str]:
    """What says of itself, in `pythons`, that it is for other Pythons. pip refuses that. uv, which chose it, takes an
    upper bound for a guess of the time when it was made."""
    version = python.markers["python_full_version"]
    for package in packages:
        said = pythons.get(package.name, "")
        try:
            fits = SpecifierSet(said).contains(version, prereleases=True)
        except (InvalidSpecifier, InvalidVersion):
            continue
        if not fits:
            yield f"{package.pin} says that it is for Python {said}, and the environment has {version}"
