"""Resolves all pip steps of one image together, so that a later step never changes what an earlier one installed.

    Question -> requests -> uv's answer -> one artifact each -> bytes in the store -> what each step installs

Nothing leaves here without a SHA-256: artifacts are in the store, verified, when `resolve` returns, and which package
needs which is read from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from klock.lockfile.model import LockedPackage
from klock.packages.artifacts import ArtifactLocker
from klock.packages.fetch import fetch_packages
from klock.packages.placing import Resolution, check_hashes, place
from klock.packages.question import Question, World
from klock.packages.replacing import refuse_replacements
from klock.packages.request import PipRequest
from klock.packages.resolver import Answer, Resolver
from klock.packages.roots import Root, read_roots
from klock.packages.wheels import wheel_of

if TYPE_CHECKING:
    from klock.packages.projects import ReadProject

__all__ = ["Resolution", "resolve"]


def resolve(question: Question, world: World) -> Resolution:
    """Chooses what each pip step of `question` installs, and fetches every artifact.

    Raises RequirementError, ResolutionError, FetchError, HashMismatch, or StepFailed for a build that fails; no message
    has credentials in it.
    """
    resolver = Resolver(
        world=world,
        question=question,
        credentials=question.collect_credentials(world),
        preferences=question.preferred_versions,
    )
    against_environment = frozenset(
        root.name for root in read_roots(question.requests) if root.name and root.scoped.options.no_build_isolation
    )
    if against_environment:
        # Such a build finds everything else that the image installs, as it would at the end of the steps.
        rest = _resolve_together([_without_builds_against(request) for request in question.requests], resolver)
        _install(rest, world, question.requests[-1])
        versions = {package.name: package.version for package in rest.packages}
        resolver = replace(resolver, preferences={**resolver.preferences, **versions})
    return _resolve_together(question.requests, resolver, against_environment=against_environment)


def _resolve_together(
    requests: Sequence[PipRequest], resolver: Resolver, *, against_environment: frozenset[str] = frozenset()
) -> Resolution:
    """The resolution of `requests`; the projects of `against_environment` are built without isolation."""
    world = resolver.world
    last = requests[-1] if requests else PipRequest()
    locker = ArtifactLocker(resolver=resolver, request=last, not_isolated=against_environment)
    projects = _read_projects(requests, locker)
    requests = [_with_projects(request, found) for request, found in zip(requests, projects, strict=True)]
    answer = resolver.ask(requests)
    roots = tuple(root for root in read_roots(requests) if root.applies_to(world.python))
    packages = _lock(requests, roots, answer, locker)
    fetch_packages(
        packages,
        store=world.store,
        credentials=resolver.credentials,
        offline=world.offline,
        progress=world.progress,
    )
    check_hashes(roots, packages, answer, world.store)
    placed = place(len(requests), roots, packages, answer, python=world.python, store=world.store)
    if resolver.question.keep_base:
        refuse_replacements(placed.replacements)
    pins = {package.pin for package in placed.packages}
    builders = [package for pin, package in locker.build_packages.items() if pin not in pins]
    return replace(
        placed,
        packages=tuple(sorted((*placed.packages, *builders), key=lambda p: (p.name, p.version))),
        projects=tuple(tuple(read.project for read in found) for found in projects),
        warnings=(*placed.replacements, *placed.warnings),
    )


def _read_projects(requests: Sequence[PipRequest], locker: ArtifactLocker) -> list[list[ReadProject]]:
    if not any(request.projects for request in requests):
        return [[] for _ in requests]
    from klock.packages.projects import read_project

    return [[read_project(source, locker) for source in request.projects] for request in requests]


def _lock(
    requests: Sequence[PipRequest], roots: Sequence[Root], answer: Answer, locker: ArtifactLocker
) -> list[LockedPackage]:
    """The answer as locked packages, without what the base has already."""
    versions = locker.resolver.world.python.versions
    forced = {root.name for root in roots if requests[root.step].force}
    chosen = [p for p in answer.packages if p.direct or p.name in forced or versions.get(p.name) != p.version]
    asked = {root.name: f"{root.scoped.origin}: {root.scoped.text}" for root in reversed(roots)}
    return [locker.lock(p, answer.index[p.name], asked=asked.get(p.name, "")) for p in chosen]


def _without_builds_against(request: PipRequest) -> PipRequest:
    """The request without what is built against the environment."""
    isolated = tuple(r for r in request.requirements if not r.options.no_build_isolation)
    return replace(request, requirements=isolated)


def _with_projects(request: PipRequest, projects: Sequence[ReadProject]) -> PipRequest:
    requires = tuple(requirement for read in projects for requirement in read.requires)
    return replace(request, requirements=(*request.requirements, *requires))


def _install(resolution: Resolution, world: World, request: PipRequest) -> None:
    by_pin = {package.pin: package for package in resolution.packages}
    packages = [by_pin[pin] for step in resolution.steps for pin in step]
    from klock.packages.wheel_install import install_wheels

    install_wheels(
        [(package.name, package.version, wheel_of(package)) for package in packages],
        python=world.python.interpreter.path,
        workspace=world.workspace,
        store=world.store,
        variables=request.open_environment,
    )
