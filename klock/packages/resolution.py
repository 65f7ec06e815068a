"""Locks all pip steps of an image: what each installs, as artifacts in the store with a SHA-256 each."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from klock.errors import HashMismatch
from klock.lockfile.model import LocalProject, LockedPackage, VcsArtifact
from klock.packages.artifacts import ArtifactLocker
from klock.packages.credentials import Credentials
from klock.packages.fetch import fetch_packages
from klock.packages.indexes import DEFAULT_INDEX
from klock.packages.interpreter import TargetPython
from klock.packages.projects import ReadProject, read_project
from klock.packages.request import PipRequest
from klock.packages.resolver import Answer, Resolver
from klock.packages.roots import Root, read_roots, same_repository
from klock.packages.selection import SelectedFolder
from klock.packages.uv import check_uv_runs
from klock.packages.wheel_install import install_wheels
from klock.packages.wheels import closure, read_wheel_metadata, required_names, wheel_of
from klock.progress import Progress
from klock.store import Store
from klock.workshop.protocol import Workspace

__all__ = ["Resolution", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """`steps` and `projects` have one entry for each pip step: the pins it installs, and the local projects.

    `packages` are all that any step or build needs, by name. `warnings` are sentences for people: a yanked version, a
    distribution of the base that no longer fits.
    """

    packages: tuple[LockedPackage, ...]
    steps: tuple[tuple[str, ...], ...]
    projects: tuple[tuple[LocalProject, ...], ...]
    warnings: tuple[str, ...] = ()


def resolve(
    requests: Sequence[PipRequest],
    *,
    workspace: Workspace,
    python: TargetPython,
    store: Store,
    credentials: Credentials | None = None,
    netrc: Path | None = None,
    previous: Sequence[LockedPackage] = (),
    upgrade: bool = False,
    upgrade_packages: Collection[str] = (),
    default_index: str = DEFAULT_INDEX,
    offline: bool = False,
    progress: Progress | None = None,
) -> Resolution:
    """Resolves `requests`, one for each pip step of an image, in order, and fetches every artifact.

    `workspace` is one as it is just before the first pip step; it is used up: close it without a snapshot. Versions of
    `previous` are kept where they still fit, unless `upgrade` or named in `upgrade_packages`. `offline` chooses from
    `previous` alone.

    Raises RequirementError, ResolutionError, FetchError, HashMismatch, or StepFailed for a build that fails; no message
    has credentials in it.
    """
    check_uv_runs(python.interpreter)
    known = credentials or collect_credentials(requests, netrc=netrc)
    renewed = {canonicalize_name(name) for name in upgrade_packages}
    kept = [] if upgrade else [p for p in previous if not p.build_only and p.name not in renewed]
    resolver = Resolver(
        workspace=workspace,
        python=python,
        store=store,
        credentials=known,
        netrc=netrc,
        default_index=default_index,
        offline=offline,
        preferences={package.name: package.version for package in kept},
        previous=previous,
        commits={
            (p.artifact.url, p.artifact.requested_revision): p.artifact.commit
            for p in kept
            if isinstance(p.artifact, VcsArtifact)
        },
    )
    not_isolated = frozenset(
        root.name for root in read_roots(requests) if root.name and root.scoped.options.no_build_isolation
    )
    if not_isolated:
        before = resolve(
            [_without_unisolated(request) for request in requests],
            workspace=workspace,
            python=python,
            store=store,
            credentials=known,
            netrc=netrc,
            previous=previous,
            upgrade=upgrade,
            upgrade_packages=upgrade_packages,
            default_index=default_index,
            offline=offline,
            progress=progress,
        )
        _install_for_builds(before, workspace=workspace, python=python, store=store, request=requests[-1])
        resolver.preferences = {**resolver.preferences, **{p.name: p.version for p in before.packages}}
    last = requests[-1] if requests else PipRequest()
    locker = ArtifactLocker(resolver=resolver, request=last, not_isolated=not_isolated)
    projects = [[read_project(source, locker) for source in request.projects] for request in requests]
    requests = [_with_projects(request, found) for request, found in zip(requests, projects, strict=True)]
    answer = resolver.ask(requests)
    roots = tuple(root for root in read_roots(requests) if root.applies_to(python))
    forced = {root.name for root in roots if requests[root.step].force}
    chosen = [p for p in answer.packages if p.direct or p.name in forced or python.versions.get(p.name) != p.version]
    packages = [locker.lock(package, answer.index[package.name]) for package in chosen]
    fetch_packages(packages, store=store, credentials=known, offline=offline, progress=progress)
    _check_hashes(roots, packages, store)
    assembled = _assemble(requests, roots, packages, answer, python=python, store=store)
    installed = {package.pin for package in assembled.packages}
    builders = [package for pin, package in locker.build_packages.items() if pin not in installed]
    return dataclasses.replace(
        assembled,
        packages=tuple(sorted((*assembled.packages, *builders), key=lambda p: (p.name, p.version))),
        projects=tuple(tuple(read.project for read in found) for found in projects),
    )


def collect_credentials(
    requests: Sequence[PipRequest], *, netrc: Path | None = None, environ: Mapping[str, str] | None = None
) -> Credentials:
    """Those in the steps' own variables and lines, then those in the variables of this process, then netrc's."""
    return Credentials.collect(
        environments=[*(request.environment for request in requests), environ or {}],
        urls=[url for request in requests for r in request.requirements for url in (*r.options.urls, *r.text.split())],
        netrc=netrc,
    )


def _without_unisolated(request: PipRequest) -> PipRequest:
    isolated = tuple(r for r in request.requirements if not r.options.no_build_isolation)
    return dataclasses.replace(request, requirements=isolated)


def _install_for_builds(
    resolution: Resolution, *, workspace: Workspace, python: TargetPython, store: Store, request: PipRequest
) -> None:
    """What is built without isolation finds everything else the image installs, as it would at the end of the steps."""
    by_pin = {package.pin: package for package in resolution.packages}
    packages = [by_pin[pin] for step in resolution.steps for pin in step]
    install_wheels(
        [(package.name, package.version, wheel_of(package)) for package in packages],
        python=python.interpreter.path,
        workspace=workspace,
        store=store,
        variables=request.environment,
    )


def _with_projects(request: PipRequest, projects: Sequence[ReadProject]) -> PipRequest:
    requires = tuple(requirement for read in projects for requirement in read.requires)
    return dataclasses.replace(request, requirements=(*request.requirements, *requires))


def _assemble(
    requests: Sequence[PipRequest],
    roots: Sequence[Root],
    packages: Sequence[LockedPackage],
    answer: Answer,
    *,
    python: TargetPython,
    store: Store,
) -> Resolution:
    """Who needs whom, from the wheels' own metadata; each package goes to the first step that leads to it."""
    requires: dict[str, Sequence[str]] = {item.name: item.requires for item in python.installed}
    for package in packages:
        wheel = wheel_of(package)
        metadata = read_wheel_metadata(store.blob_path(f"sha256:{wheel.sha256}"), wheel.name)
        requires[package.name] = metadata.requires
    asked = [_roots_of_step(number, roots, answer) for number in range(len(requests))]
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
        dataclasses.replace(
            package,
            dependencies=tuple(sorted(required_names(requires[name], markers=python.markers, extras=extras[name]))),
            replaces=python.versions.get(name),
        )
        for name, package in sorted(by_name.items())
    )
    warnings = (*answer.warnings, *_broken(locked, python))
    return Resolution(packages=locked, steps=tuple(steps), projects=tuple(() for _ in requests), warnings=warnings)


def _roots_of_step(number: int, roots: Sequence[Root], answer: Answer) -> dict[str, frozenset[str]]:
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


def _check_hashes(roots: Sequence[Root], packages: Sequence[LockedPackage], store: Store) -> None:
    """`--hash` of another algorithm than SHA-256 can only be checked on the bytes."""
    by_name = {package.name: package for package in packages}
    for root in roots:
        package = by_name.get(root.name or "")
        others = [h for h in root.scoped.hashes if not h.startswith("sha256:")]
        if package is None or not root.scoped.hashes:
            continue
        allowed = set(root.scoped.hashes)
        artifact = package.artifact
        sha256 = getattr(artifact, "sha256", None)
        found = {f"sha256:{sha256}"}
        if others and sha256:
            content = store.blob_path(f"sha256:{sha256}").read_bytes()
            found |= {f"{name}:{hashlib.new(name, content).hexdigest()}" for name in ("sha384", "sha512")}
        if not found & allowed:
            raise HashMismatch(
                f"{root.scoped.origin}: {package.pin} is {wheel_of(package).name} with sha256:{sha256}, "
                "which is none of the hashes that --hash allows",
                hint="see who changed the file upstream before you change the hash",
            )


def _broken(packages: Sequence[LockedPackage], python: TargetPython) -> tuple[str, ...]:
    """As pip does, the base's own distributions that a replaced one leaves without what they require."""
    new = {package.name: package.version for package in packages}
    sentences = []
    for item in python.installed:
        if item.name in new:
            continue
        for text in item.requires:
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            version = new.get(canonicalize_name(requirement.name))
            if version is None or (
                requirement.marker and not requirement.marker.evaluate({**python.markers, "extra": ""})
            ):
                continue
            try:
                fits = requirement.specifier.contains(version, prereleases=True)
            except InvalidVersion:
                continue
            if not fits:
                sentences.append(
                    f"{item.name} {item.version} of the base requires {requirement.name}{requirement.specifier}, "
                    f"but {version} is going to be installed"
                )
    return tuple(sentences)
