"""Resolves the pip steps of one image together, and locks them one by one, each in the environment that it finds.

    Question -> uv's answer for all steps -> what each step installs -> one artifact each -> bytes in the store

All steps are asked for at once, so that a later one never changes what an earlier one installed. What has to be built
is built at its own step, over the layers of the steps before it: they may bring the compiler. If uv has to build
something just to learn what it needs, and cannot do that yet, the earlier steps are locked by themselves, and all steps
are asked for when that one is reached. Where this answer differs for an earlier step, that step is locked once more.

Nothing leaves here without a SHA-256: artifacts are in the store, verified, and which package needs which is read from
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field, replace
from typing import TYPE_CHECKING, TypeAlias

from klock.errors import KlockError
from klock.lockfile.model import LocalProject, LockedPackage
from klock.packages.artifacts import ArtifactLocker
from klock.packages.build_failures import BuildFailed, UnbuiltSource
from klock.packages.fetch import fetch_packages
from klock.packages.interpreter import TargetPython
from klock.packages.overriding import Overriding
from klock.packages.placing import (
    broken,
    builders_of,
    check_hashes,
    check_names,
    is_same,
    roots_of_step,
    strays,
    unfit_for,
)
from klock.packages.question import Question, World
from klock.packages.replacing import refuse_replacements, replacements
from klock.packages.request import PipRequest
from klock.packages.resolver import Answer, Resolver
from klock.packages.roots import Root, constraints_in, line_of, roots_in
from klock.packages.selection import SelectedFile, SelectedPackage
from klock.packages.wheels import closure, metadata_of, read_wheel_metadata, required_names, wheel_of
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.packages.projects import ReadProject

__all__ = ["OpenWorld", "Reconsidered", "Resolving"]

OpenWorld: TypeAlias = Callable[[], AbstractContextManager[World]]


class Reconsidered(Exception):
    """The answer for all steps is another one for step number `step`: lock the steps anew from there."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


@dataclass(frozen=True, slots=True, kw_only=True)
class _LockedStep:
    """`reached` are all projects that the step's requirements lead to, with the extras asked of each."""

    packages: tuple[LockedPackage, ...]
    projects: tuple[LocalProject, ...]
    reached: Mapping[str, frozenset[str]]


@dataclass(slots=True, kw_only=True)
class Resolving:
    """The pip steps of `question`, locked in order with `lock_step`. `warnings` are sentences for people: a yanked
    version, what becomes of a distribution of the base."""

    question: Question
    warnings: list[str] = field(default_factory=list)
    _python: TargetPython | None = None
    _answer: Answer | None = None
    _answered: int = 0  # so many steps, from the first one, are answered
    _roots: tuple[Root, ...] = ()
    _chosen: Mapping[str, SelectedPackage] = field(default_factory=dict)
    _locked: dict[str, LockedPackage] = field(default_factory=dict)
    _builders: dict[str, LockedPackage] = field(default_factory=dict)
    _overriding: Overriding = field(default_factory=Overriding)
    _requires: dict[str, Sequence[str]] = field(default_factory=dict)
    _pythons: dict[str, str] = field(default_factory=dict)
    _reached: dict[int, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    _projects: dict[int, Sequence[ReadProject]] = field(default_factory=dict)
    _steps: list[_LockedStep] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)
    _trusts_learnt: bool = True

    @property
    def python(self) -> TargetPython:
        """The environment's Python as the first of the steps finds it."""
        assert self._python is not None
        return self._python

    @property
    def packages(self) -> tuple[LockedPackage, ...]:
        """All that the steps so far install, and what builds it, by name."""
        extras: dict[str, frozenset[str]] = {}
        for step in self._steps:
            for name, more in step.reached.items():
                extras[name] = extras.get(name, frozenset()) | more
        markers, versions = self.python.markers, self.python.versions
        placed = [
            replace(
                package,
                dependencies=tuple(
                    sorted(required_names(self._requires[package.name], markers=markers, extras=extras[package.name]))
                ),
                replaces=versions.get(package.name),
            )
            for step in self._steps
            for package in step.packages
        ]
        projects = [project for step in self._steps for project in step.projects]
        builders = builders_of(placed, projects, self._builders)
        return tuple(sorted((*placed, *builders), key=lambda p: (p.name, p.version)))

    def pins(self, number: int) -> tuple[str, ...]:
        """What step `number`, which is locked, installs."""
        return tuple(package.pin for package in self._steps[number].packages)

    def projects(self, number: int) -> tuple[LocalProject, ...]:
        """The local projects that step `number`, which is locked, installs."""
        return self._steps[number].projects

    def lock_step(self, number: int, open_world: OpenWorld) -> None:
        """Locks step `number`, after those before it. `open_world` opens the environment that it finds.

        Raises RequirementError, ResolutionError, FetchError, HashMismatch, or StepFailed for a build that fails; no
        message has credentials in it. Raises Reconsidered where an earlier step has to be locked anew.
        """
        assert number == len(self._steps)
        if number >= self._answered:
            with open_world() as world:
                self._ask(number, world)
            self._compare()
        projects: tuple[LocalProject, ...] = ()
        if self._needs_environment(number):
            # Not in the world of the question: what was built there to learn about it may have left something behind.
            with open_world() as world:
                self._build(number, world)
                projects = self._lock_projects(number, world)
        names, reached = self._names_of(number), self._reach(number)
        packages = tuple(self._locked[name] for name in names)
        self._steps.append(_LockedStep(packages=packages, projects=projects, reached=reached))
        if len(self._steps) == len(self.question.requests):
            self._tell(self._strays())

    def _strays(self) -> Iterator[str]:
        everywhere: dict[str, frozenset[str]] = {}
        for step in self._steps:
            for name, extras in step.reached.items():
                everywhere[name] = extras | everywhere.get(name, frozenset())
        locked = {root.name for root in self._roots if root.name and root.scoped.is_locked}
        return strays(self._chosen.values(), everywhere, self._requires, self.python, locked=locked)

    # -- the question

    def _ask(self, number: int, world: World) -> None:
        self._python = self._python or world.python
        requests = self.question.requests
        try:
            self._take(requests, world)
        except KlockError as error:
            upto = next((n for n in range(number + 1, len(requests)) if requests[n].stands_apart), None)
            if upto is None or not _may_be_missing(error, requests[upto:]):
                raise
            self._take(requests[:upto], world)

    def _take(self, requests: Sequence[PipRequest], world: World) -> None:
        """Takes over uv's answer for `requests`, and locks of it what need not be built."""
        resolver = self._resolver(world)
        requests = self._with_projects(requests, world)
        self._overriding = Overriding.of(requests, world.workspace.read)
        roots = self._roots_of(requests)
        locker = self._locker(resolver, requests[-1], roots)
        if self._trusts_learnt and not world.offline:
            from klock.packages.learnt import learnt_of

            known = learnt_of(self.question.kept, world, requests[-1].open_environment)
            resolver = replace(resolver, learnt=tuple(known))
        if locker.not_isolated:
            resolver = self._with_the_rest_installed(requests, resolver, locker)
        answer = resolver.ask(requests)
        chosen = {package.name: package for package in self._choose(answer, requests, roots)}
        same = {n: package for n, package in self._locked.items() if n in chosen and is_same(package, chosen[n])}
        new = [package for name, package in chosen.items() if name not in same and not _is_late(package)]
        locked = [locker.lock(p, answer.index[p.name], asked=line_of(p.name, roots)) for p in new]
        self._answer, self._answered, self._roots, self._chosen = answer, len(requests), roots, chosen
        self._requires = {
            item.name: self._overriding.requires(item.name, item.version, item.requires)
            for item in self.python.installed
        }
        self._requires.update(dict.fromkeys(chosen, ()))
        for own in (own for request in requests for own in request.own):
            self._requires[own.name] = self._overriding.requires(own.name, own.version, own.requires)
        self._locked = {}
        self._add([*same.values(), *locked], world)
        self._tell(answer.warnings)

    def _with_projects(self, requests: Sequence[PipRequest], world: World) -> list[PipRequest]:
        """The requests with what their local projects require."""
        done = []
        for number, request in enumerate(requests):
            if request.projects and number not in self._projects:
                from klock.packages.projects import read_project

                locker = self._locker(self._resolver(world), request, ())
                self._projects[number] = [read_project(source, locker) for source in request.projects]
            read = self._projects.get(number, ())
            more = [line for each in read for line in each.requires]
            own = tuple(each.as_wheel for each in read)
            done.append(replace(request, requirements=(*request.requirements, *more), own=own))
        names = {each.name for request in done for each in request.own}
        for each in (each for number in range(len(done)) for each in self._projects.get(number, ())):
            for name in sorted({*each.folders} - names):
                self._tell(
                    [
                        f"{each.source.origin}: {name} is a folder for uv (tool.uv.sources of {each.source.path}), and "
                        "comes from an index here; copy the folder, and install its path, too"
                    ]
                )
        return done

    def _with_the_rest_installed(
        self, requests: Sequence[PipRequest], resolver: Resolver, locker: ArtifactLocker
    ) -> Resolver:
        """Installs all but what is built against the environment: to learn what that requires, uv may have to run its
        build, which finds everything else there. The resolver then keeps to those versions."""
        rest = [request.without_builds_against for request in requests]
        answer = resolver.ask(rest)
        world = resolver.world
        packages = [locker.lock(p, answer.index[p.name]) for p in self._choose(answer, rest, self._roots_of(rest))]
        fetch_packages(packages, store=world.store, credentials=resolver.credentials, offline=world.offline)
        present = {package.pin for step in self._steps for package in step.packages}
        _install([package for package in packages if package.pin not in present], world, requests[-1])
        return replace(resolver, preferences={**resolver.preferences, **{p.name: p.version for p in packages}})

    def _choose(
        self, answer: Answer, requests: Sequence[PipRequest], roots: Sequence[Root]
    ) -> tuple[SelectedPackage, ...]:
        """The answer without what the base has already."""
        versions = self.python.versions
        forced = {root.name for root in roots if requests[root.step].force}
        return tuple(p for p in answer.packages if p.direct or p.name in forced or versions.get(p.name) != p.version)

    def _compare(self) -> None:
        """Raises Reconsidered for the first of the locked steps of which the answer says something else now."""
        before, self._steps = self._steps, []
        for number, step in enumerate(before):
            if tuple(self._locked.get(name) for name in self._names_of(number)) != step.packages:
                # What they built was built on other layers than there will be.
                for package in (package for later in before[number:] for package in later.packages):
                    if package.name in self._chosen and _is_late(self._chosen[package.name]):
                        self._locked.pop(package.name, None)
                        self._requires[package.name] = ()
                self._reached.clear()
                raise Reconsidered(number)
            self._steps.append(replace(step, reached=self._reach(number)))

    # -- a step

    def _needs_environment(self, number: int) -> bool:
        return bool(self.question.requests[number].projects) or any(map(self._is_to_be_built, self._chosen))

    def _is_to_be_built(self, name: str) -> bool:
        return name not in self._locked and _is_late(self._chosen[name])

    def _build(self, number: int, world: World) -> None:
        """Builds what the step needs and no step before it brought; what is built against the environment last."""
        assert self._answer is not None
        request = self.question.requests[number]
        locker = self._locker(self._resolver(world), request, self._roots)
        is_installed = False
        while missing := [name for name in self._names_of(number) if self._is_to_be_built(name)]:
            isolated = [name for name in missing if name not in locker.not_isolated]
            if not isolated and not is_installed:
                _install([self._locked[n] for n in self._names_of(number) if n in self._locked], world, request)
                is_installed = True
            for name in isolated or missing:
                line = line_of(name, self._roots)
                self._add([locker.lock(self._chosen[name], self._answer.index[name], asked=line)], world)
            self._tell()

    def _lock_projects(self, number: int, world: World) -> tuple[LocalProject, ...]:
        if number not in self._projects:
            return ()
        from klock.packages.projects import lock_project

        locker = self._locker(self._resolver(world), self.question.requests[number], ())
        return tuple(lock_project(read, locker) for read in self._projects[number])

    def _add(self, packages: Sequence[LockedPackage], world: World) -> None:
        """Takes up locked packages, whose artifacts are in the store then."""
        assert self._answer is not None
        credentials = self.question.collect_credentials(world)
        fetch_packages(
            packages, store=world.store, credentials=credentials, offline=world.offline, progress=world.progress
        )
        lines = (*self._roots, *constraints_in(self.python, self.question.requests))
        check_hashes(lines, packages, self._answer, world.store)
        if self._answer.learnt:
            self._confirm(packages, world)
        for package in packages:
            self._locked[package.name] = package
            metadata = metadata_of(wheel_of(package), world.store)
            check_names(package, metadata)
            requires = self._overriding.requires(package.name, package.version, metadata.requires)
            self._requires[package.name], self._pythons[package.name] = requires, metadata.python
        self._reached.clear()

    def _confirm(self, packages: Sequence[LockedPackage], world: World) -> None:
        """Raises Reconsidered where a package that is built by now requires something else than uv was told of it."""
        assert self._answer is not None
        told = {each.metadata.name: each for each in self._answer.learnt}
        for package in packages:
            wheel = wheel_of(package)
            if package.name not in told or told[package.name].wheel == wheel.sha256:
                continue
            path = world.store.blob_path(f"sha256:{wheel.sha256}")
            if read_wheel_metadata(path, wheel.name) != told[package.name].metadata:
                self._trusts_learnt, self._answered, self._steps = False, 0, []
                raise Reconsidered(0)

    # -- what leads where

    def _reach(self, number: int) -> Mapping[str, frozenset[str]]:
        """The projects that the step's requirements lead to, as far as that is known by now, with their extras."""
        assert self._answer is not None
        if number not in self._reached:
            asked = roots_of_step(number, self._roots, self._answer)
            self._reached[number] = closure(asked, self._requires, markers=self.python.markers)
        return self._reached[number]

    def _names_of(self, number: int) -> list[str]:
        """What the step brings: each package belongs to the first step that needs it."""
        earlier = {name for before in range(number) for name in self._reach(before)}
        return sorted(name for name in self._reach(number) if name in self._chosen and name not in earlier)

    # -- tools

    def _resolver(self, world: World) -> Resolver:
        settled = {package.name: package for step in self._steps for package in step.packages}
        question = replace(self.question, settled=tuple(settled.values()))
        return Resolver(
            world=world,
            question=question,
            credentials=question.collect_credentials(world),
            preferences=question.preferred_versions,
        )

    def _locker(self, resolver: Resolver, request: PipRequest, roots: Sequence[Root]) -> ArtifactLocker:
        against = {root.name for root in roots if root.name and root.scoped.options.no_build_isolation}
        return ArtifactLocker(
            resolver=resolver, request=request, not_isolated=frozenset(against), build_packages=self._builders
        )

    def _roots_of(self, requests: Sequence[PipRequest]) -> tuple[Root, ...]:
        return roots_in(self.python, requests, self._overriding)

    def _tell(self, warnings: Iterable[str] = ()) -> None:
        """Says what becomes of the base's distributions by what is known now, and `warnings`, each sentence once."""
        versions = self.python.versions
        reached = {name for number in range(self._answered) for name in self._reach(number)}
        known = [replace(p, replaces=versions.get(n)) for n, p in sorted(self._locked.items()) if n in reached]
        new = [package for package in known if package.name not in self._told]
        self._told.update(package.name for package in new)
        replaced = list(replacements(new, self._roots, self._requires, self.python))
        if self.question.keep_base:
            refuse_replacements(replaced)
        unfit = unfit_for(self.python, new, self._pythons)
        for sentence in (*replaced, *warnings, *unfit, *broken(known, self.python)):
            if sentence not in self.warnings:
                self.warnings.append(sentence)


def _is_late(package: SelectedPackage) -> bool:
    """Whether it is made of what the environment has at its step: a source that is built there, or a file of it."""
    source = package.source
    return not isinstance(source, SelectedFile) or not source.is_wheel or source.url.startswith("file:")


def _may_be_missing(error: KlockError, later: Sequence[PipRequest]) -> bool:
    """Whether the steps before `later` may bring what was not there: what a build needs, or a file that is named."""
    return isinstance(error, UnbuiltSource | BuildFailed) or any(request.names_files for request in later)


def _install(packages: Sequence[LockedPackage], world: World, request: PipRequest) -> None:
    from klock.packages.wheel_install import install_wheels

    install_wheels(
        [(package.name, package.version, wheel_of(package)) for package in packages],
        python=world.python.interpreter.path,
        workspace=world.workspace,
        store=world.store,
        variables=request.open_environment,
    )
