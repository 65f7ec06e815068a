"""Composes what uv is asked in one attempt to resolve all pip steps of an image.

Distributions of the base that may stay are offered to uv as wheels without content (`klock.packages.stubs`), and their
versions are preferred to all others.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from klock.errors import RequirementError, ResolutionError
from klock.image.pip_options import OWN
from klock.packages.credentials import bare_text, without_credentials
from klock.packages.files_of_locks import version_of_url
from klock.packages.indexes import Index, ScopePlan, settings_from_variables
from klock.packages.overriding import lines_of_files
from klock.packages.platform_tags import uv_platform
from klock.packages.question import Question, World
from klock.packages.request import PipRequest, ScopedRequirement, parse_requirement
from klock.packages.roots import Root, split_revision
from klock.packages.uv import WORK
from klock.packages.uv_project import UvProject
from klock.packages.wheels import WheelMetadata, metadata_of, wheel_of
from klock.values import dataclass
from klock.workshop.handover import empty_folder

if TYPE_CHECKING:
    from klock.packages.learnt import Learnt
    from klock.recorder import Links

__all__ = ["Case", "all_constraints", "compose", "overrides_in", "steering_of"]

_URL: Final = re.compile(r"https?://[^\s;#]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What stays the same from one attempt to the next.

    `roots` are the requirements of `requests` that apply, `plan` says which index may answer which of them,
    `preferences` are versions to keep. Files for uv go into `folder`, a host folder that uv sees as WORK.
    `is_outside`: uv runs on this machine, and not in the environment; inside `links` are what the pages link to that it
    was given so far.
    """

    world: World
    question: Question
    requests: Sequence[PipRequest]
    roots: Sequence[Root]
    plan: ScopePlan
    preferences: Mapping[str, str]
    folder: Path
    links: Links | None = None
    is_outside: bool = False

    @property
    def own(self) -> Mapping[str, WheelMetadata]:
        """The local projects of the image, by name."""
        return {each.name: each for request in self.requests for each in request.own}

    @property
    def seen_folder(self) -> str:
        """What uv calls `folder`."""
        return os.fspath(self.folder) if self.is_outside else WORK


def compose(
    case: Case, *, kept: Collection[str], promoted: Mapping[str, Index], learnt: Iterable[Learnt] = ()
) -> UvProject:
    """The project that uv is to resolve; its files are written.

    `kept` names the distributions of the base that may stay. `promoted` are dependencies that only these indexes have.
    uv is told what was `learnt`.
    Raises ResolutionError when a file of constraints is missing.
    """
    versions = case.world.python.versions
    own, unknown = _own_projects(case)
    installed = {name: versions[name] for name in kept}
    constraints = [*(c for request in case.requests for c in request.constraints), *_constraint_files(case, "PIP")]
    options = [(root, root.scoped.options) for root in case.roots]
    pins = {**case.plan.pins, **promoted}
    limits = [_as_asked(constraint.text, case) for constraint in constraints if parse_requirement(constraint)]
    project = UvProject(
        dependencies=(
            *(_as_asked(root.scoped.text, case) for root in case.roots if root.requirement),
            *sorted(promoted),
            *own,
        ),
        direct=tuple(_as_asked(root.scoped.text, case) for root in case.roots if not root.requirement),
        constraints=tuple(dict.fromkeys([*limits, *_held(case, installed)])),
        overrides=tuple(
            dict.fromkeys([*_overrides(case, pins), *(_as_asked(o.text, case) for o in overrides_in(case)), *unknown])
        ),
        settings=case.plan.shared,
        steering=steering_of(case.requests),
        pins={name: index for name, index in pins.items() if name not in kept and name not in case.own},
        preferences={**case.preferences, **installed},
        prereleases=_with_prereleases(case, installed),
        no_binary=_named([line.no_binary for _, line in options]),
        only_binary=_named([line.only_binary for _, line in options]),
        no_build_isolation=_sorted(root.name for root, line in options if line.no_build_isolation and root.name),
        fallbacks=_fallbacks(case),
        stubs=f"{case.seen_folder}/stubs",
        elsewhere=_elsewhere(case.world) if case.is_outside else None,
        builds=case.world.workspace.known is None,
        refresh=_refreshed(case),
        mirrors=case.world.mirrors,
        exclude_newer=case.question.exclude_newer,
        offline=case.world.offline,
        metadata=_metadata(case, learnt),
        folder=case.seen_folder,
    )
    project.write(case.folder)
    _write_stubs(case, kept)
    return project


def _own_projects(case: Case) -> tuple[list[str], list[str]]:
    """Local projects of the image as requirements, which others of the image may have. Besides, as overrides, those
    whose version nobody knows yet: it meets what others require of it."""
    folder = empty_folder(case.folder, "projects")
    if not case.own:
        return [], []
    from klock.packages.stubs import write_stub

    known: list[str] = []
    unknown: list[str] = []
    for each in case.own.values():
        version = each.version if _is_version(each.version) else "0"
        stub = write_stub(folder, name=each.name, version=version, requires=each.requires, extras=each.extras)
        if stub is not None:
            text = f"{each.name} @ file://{case.seen_folder}/projects/{stub.name}"
            known.append(text)
            unknown += [text] if version != each.version else []
    return known, unknown


def _locked(case: Case) -> list[tuple[Root, str, bool]]:
    """Packages in locks of other tools, with their names, and whether the image asks for extras of them."""
    with_extras = {root.name for root in case.roots if root.extras}
    return [
        (root, root.name, root.name in with_extras)
        for root in case.roots
        if root.scoped.is_locked and root.name is not None
    ]


def _overrides(case: Case, pins: Mapping[str, Index]) -> tuple[str, ...]:
    """A locked version counts, whatever others require. But uv forgets an overridden package's extras and index."""
    texts = (_as_asked(r.scoped.text, case) for r, name, extras in _locked(case) if name not in pins and not extras)
    return tuple(dict.fromkeys(texts))


def overrides_in(case: Case) -> list[ScopedRequirement]:
    """The overrides of projects, each with its line. Those of UV_OVERRIDE uv reads itself."""
    return [line for request in case.requests for each in request.steering for line in each.overrides]


def steering_of(requests: Iterable[PipRequest]) -> dict[str, Any]:
    """What projects say of all that is resolved, as a uv.toml has it. Raises RequirementError where two differ."""
    found: dict[str, Any] = {}
    places: dict[str, str] = {}
    for each in (each for request in requests for each in request.steering):
        more = {"exclude-dependencies": [*each.excluded]} if each.excluded else {}
        if each.build_constraints:
            more["build-constraint-dependencies"] = [bare_text(line.text) for line in each.build_constraints]
        for key, value in {**each.settings, **more}.items():
            before = found.setdefault(key, value)
            if isinstance(value, list):
                found[key] = [*before, *(item for item in value if item not in before)]
            elif isinstance(value, dict):
                found[key] = {**value, **before}
            elif before != value:
                raise RequirementError(
                    f"{each.places.get(key, key)} is {value!r}, but {places[key]} is {before!r}",
                    hint="all pip steps of an image are resolved together: one value has to do for all",
                )
            places.setdefault(key, each.places.get(key, key))
    return found


def _metadata(case: Case, learnt: Iterable[Learnt]) -> tuple[WheelMetadata, ...]:
    """What uv takes for the packages' metadata. Those of a lock require nothing, as it has all that they need."""
    found = {(each.metadata.name, each.metadata.version): each.metadata for each in learnt}
    for root, name, extras in _locked(case):
        if root.requirement is not None and not extras:
            url, pins = root.requirement.url, [pin.version for pin in root.requirement.specifier]
            version = pins[0] if url is None else version_of_url(url)
            if version is not None:
                found[name, version] = WheelMetadata(name=name, version=version)
    return tuple(found.values())


def _elsewhere(world: World) -> tuple[str, str]:
    machine, libc = world.python.markers["platform_machine"], world.python.interpreter.libc
    return world.python.interpreter.version, uv_platform(machine, libc)


def _refreshed(case: Case) -> tuple[str, ...]:
    """What is to move is asked for anew; else a page of a minute ago will do."""
    if not case.is_outside:
        return ()
    return (":all:",) if case.question.upgrade else _sorted(map(canonicalize_name, case.question.upgrade_packages))


def all_constraints(case: Case) -> list[ScopedRequirement]:
    """Every constraint with its line, of the files that uv reads itself too."""
    lines = [constraint for request in case.requests for constraint in request.constraints]
    with contextlib.suppress(ResolutionError):
        lines += [*_constraint_files(case, "PIP"), *_constraint_files(case, "UV")]
    return [line for line in lines if _is_requirement(line)]


def _is_requirement(line: ScopedRequirement) -> bool:
    try:
        return parse_requirement(line) is not None
    except RequirementError:
        return False


def _held(case: Case, installed: Mapping[str, str]) -> list[str]:
    """What stays of the base as constraints, where it has to stay: uv then looks for versions that fit."""
    if not case.question.keep_base:
        return []
    return [f"{name}=={version}" for name, version in sorted(installed.items()) if _is_version(version)]


def _as_asked(text: str, case: Case) -> str:
    """The requirement without credentials, a file at its mirror, and a repository with the commit of the last lock, if
    it asks for the same revision as then."""
    split = split_revision(text)
    if split is None:
        return _URL.sub(lambda match: case.world.mirrors.towards(match[0]), bare_text(text))
    before, url, revision, after = split
    commit = case.question.preferred_commits.get((without_credentials(url), revision))
    return bare_text(text if commit is None else f"{before}{url}@{commit}{after}")


def _with_prereleases(case: Case, installed: Mapping[str, str]) -> tuple[str, ...]:
    """The projects that may be pre-releases: by an option of their line or their step, or as the base has one."""
    steps = {n for n, request in enumerate(case.requests) if settings_from_variables(request.environment).pre}
    asked = {root.name for root in case.roots if root.name and (root.scoped.options.pre or root.step in steps)}
    return _sorted(asked | {name for name, version in installed.items() if _is_prerelease(version)})


def _fallbacks(case: Case) -> tuple[Index, ...]:
    """Scoped indexes, asked last: for dependencies that no shared index has, as uv's pins hold for roots only.

    Not where the image has uv compare all indexes: then there is no last.
    """
    of_projects = steering_of(case.requests).get("index-strategy", "first-index")
    strategies = {request.environment.get("UV_INDEX_STRATEGY", of_projects) for request in case.requests}
    if strategies != {"first-index"} or case.plan.shared.default is None:
        return ()
    return tuple(index for index in case.plan.fallbacks if not index.flat)


def _constraint_files(case: Case, whose: str) -> list[ScopedRequirement]:
    """The files of `PIP_CONSTRAINT` in the container, as vendors' images have it. UV_CONSTRAINT uv reads itself."""
    read = case.world.workspace.read
    for request in case.requests:
        for path in request.environment.get(f"{whose}_CONSTRAINT", "").split():
            if read(path.removeprefix("file://")) is None:
                raise ResolutionError(f"{whose}_CONSTRAINT names {path}, which is not in the environment")
    return lines_of_files(case.requests, f"{whose}_CONSTRAINT", read)


def _write_stubs(case: Case, kept: Collection[str]) -> None:
    """What uv may choose from besides its indexes: what stays of the base, and offline what the last lock has."""
    folder = empty_folder(case.folder, "stubs")
    if not kept and not case.world.offline:
        return
    from klock.packages.stubs import write_stub

    for item in case.world.python.installed:
        if item.name in kept:
            write_stub(folder, name=item.name, version=item.version, requires=item.requires, extras=item.extras)
    for package in case.question.previous if case.world.offline else ():
        wheel = wheel_of(package)
        is_here = case.world.store.find_blob(f"sha256:{wheel.sha256}") is not None
        if is_here and package.name not in kept:
            found = metadata_of(wheel, case.world.store)
            write_stub(folder, name=found.name, version=found.version, requires=found.requires, extras=found.extras)


def _is_prerelease(version: str) -> bool:
    return _is_version(version) and Version(version).is_prerelease


def _is_version(version: str) -> bool:
    try:
        Version(version)
    except InvalidVersion:
        return False
    return True


def _named(values: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The projects that `--no-binary` and the like of the lines name, or `:all:`."""
    if values and all(OWN in each for each in values):
        return (":all:",)
    return _sorted(name for each in values for name in each if name != OWN)


def _sorted(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name}))
