"""Resolves all pip steps of one image together, so that a later step never changes what an earlier one installed.

    roots -> scope plan -> uv's answer -> one artifact each -> bytes in the store -> what each step installs

uv answers inside the environment, for its own Python. Versions of the last lock are preferred, and before them what the
base has. Nothing leaves here without a SHA-256: artifacts are in the store, verified, when `resolve` returns, and which
package needs which is read from them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from klock.errors import ResolutionError
from klock.lockfile.model import LockedPackage
from klock.packages.credentials import Credentials, without_credentials
from klock.packages.explanations import error_from_uv, missing_projects, warnings_from_uv
from klock.packages.index_pages import IndexPages
from klock.packages.indexes import DEFAULT_INDEX, Index, IndexSettings, ScopePlan, plan_scopes, settings_from_variables
from klock.packages.interpreter import TargetPython, python_environment
from klock.packages.request import PipRequest, ScopedRequirement
from klock.packages.roots import Root, name_of, names_in_options, parse_requirement, read_roots, split_revision
from klock.packages.selection import SelectedPackage, select_artifacts
from klock.packages.stubs import write_stub
from klock.packages.uv import WORK, run_uv
from klock.packages.uv_project import UvProject
from klock.packages.wheels import read_wheel_metadata, wheel_of
from klock.store import Store
from klock.workshop.protocol import Command, Network, Workspace

__all__ = ["Answer", "Resolver"]

_PASSED_ON: Final = (
    *("UV_INDEX_STRATEGY", "UV_RESOLUTION", "UV_EXCLUDE_NEWER", "UV_TORCH_BACKEND", "UV_INSECURE_HOST"),
    *("UV_NO_BUILD", "UV_NO_BUILD_PACKAGE", "UV_NO_BINARY", "UV_NO_BINARY_PACKAGE", "UV_BUILD_CONSTRAINT"),
    *(
        "UV_CONSTRAINT",
        "UV_OVERRIDE",
        "UV_NO_BUILD_ISOLATION",
        "UV_HTTP_TIMEOUT",
        "UV_HTTP_RETRIES",
        "UV_KEYRING_PROVIDER",
    ),
)
"""What steers resolution in the container's own variables and is uv's to understand; a later step's value wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What uv chose. `index` tells the index each project is from; None for a direct reference."""

    packages: tuple[SelectedPackage, ...]
    index: Mapping[str, str | None]
    warnings: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Resolver:
    """One resolution in one environment. `workspace` is thrown away afterwards: builds may have written anywhere."""

    workspace: Workspace
    python: TargetPython
    store: Store
    credentials: Credentials
    netrc: Path | None = None
    default_index: str = DEFAULT_INDEX
    offline: bool = False
    preferences: Mapping[str, str] = field(default_factory=dict)
    previous: Sequence[LockedPackage] = ()
    commits: Mapping[tuple[str, str | None], str] = field(default_factory=dict)
    """Commits to keep, by repository URL and the revision that was asked for."""

    def ask(self, requests: Sequence[PipRequest], *, use_installed: bool = True) -> Answer:
        """uv's answer for all `requests` together.

        Raises RequirementError, ResolutionError or FetchError, naming the requirements in question and their lines.
        """
        roots = tuple(root for root in read_roots(requests) if root.applies_to(self.python))
        pages = IndexPages(credentials=self.credentials, list_folder=self._list_folder, offline=self.offline)
        rejected = self._rejected_at_once(requests, roots) if use_installed else set(self.python.versions)
        promoted: dict[str, Index] = {}
        with tempfile.TemporaryDirectory(prefix="klock-resolve-") as folder:
            case = _Case(requests=requests, roots=roots, plan=self._plan(requests, pages), folder=Path(folder))
            while True:
                pins = {**case.plan.pins, **promoted}
                kept = {name for name in self.python.versions if name not in rejected}
                project = self._project(case, pins=pins, kept=kept, promoted=promoted)
                status, output = self._uv(case, project, project.arguments(python=self.python.interpreter.path))
                if status != 0:
                    found = self._promote(output, case.plan, pages, known=pins)
                    if found:
                        promoted.update(found)
                        continue
                    if not rejected.issuperset(kept & pins.keys()):
                        rejected |= kept & pins.keys()
                        continue
                    texts = [(root.name, root.scoped.text, root.scoped.origin) for root in roots]
                    masked = [(name, self.credentials.mask(text), origin) for name, text, origin in texts]
                    raise error_from_uv(self.credentials.mask(output), requirements=masked, offline=self.offline)
                selected = select_artifacts(
                    (case.folder / "pylock.toml").read_text("utf-8"),
                    markers=self.python.markers,
                    tags=self.python.tags,
                    from_source=project.no_binary,
                    hashes=_hashes(roots),
                )
                replaced = {p.name for p in selected if p.name in kept and p.version != self.python.versions[p.name]}
                again = {name for name in replaced if name in pins or name in project.prereleases}
                rejected |= replaced
                if not again:
                    break
            index = self._indexes(case, project, selected)
        self._check_scopes(case, project, index)
        return Answer(packages=selected, index=index, warnings=warnings_from_uv(self.credentials.mask(output)))

    # -- the question

    def _plan(self, requests: Sequence[PipRequest], pages: IndexPages) -> ScopePlan:
        if self.offline:
            return ScopePlan(shared=IndexSettings(default=None), pins={}, fallbacks=())
        return plan_scopes(requests, name_of=name_of, offers=pages.offers, default=self.default_index)

    def _rejected_at_once(self, requests: Sequence[PipRequest], roots: Sequence[Root]) -> set[str]:
        """Installed distributions that cannot or must not stay: not allowed by a root, or asked for anew."""
        rejected = set()
        for root in roots:
            installed = self.python.versions.get(root.name or "")
            if root.name is not None and installed is not None:
                anew = requests[root.step].force or root.scoped.options.upgrade
                if anew or not root.allows(installed):
                    rejected.add(root.name)
        return rejected

    def _project(
        self, case: _Case, *, pins: Mapping[str, Index], kept: Collection[str], promoted: Collection[str]
    ) -> UvProject:
        roots = case.roots
        constraints = [c for request in case.requests for c in request.constraints]
        constraints += self._constraint_files(case.requests)
        installed = {name: self.python.versions[name] for name in kept}
        options = [(root, root.scoped.options) for root in roots]
        steps_with_pre = {n for n, r in enumerate(case.requests) if settings_from_variables(r.environment).pre}
        pre = {root.name for root, line in options if root.name and (line.pre or root.step in steps_with_pre)}
        pre |= {name for name, version in installed.items() if _is_prerelease(version)}
        project = UvProject(
            dependencies=tuple(self._at_commit(root.scoped.text) for root in roots if root.requirement)
            + tuple(sorted(promoted)),
            direct=tuple(self._at_commit(root.scoped.text) for root in roots if not root.requirement),
            constraints=tuple(dict.fromkeys(c.text for c in constraints if parse_requirement(c))),
            settings=case.plan.shared,
            pins={name: index for name, index in pins.items() if name not in kept},
            preferences={**self.preferences, **installed},
            prereleases=tuple(sorted(pre)),
            no_binary=_sorted(name for root, line in options for name in names_in_options(line.no_binary, root)),
            only_binary=_sorted(name for root, line in options for name in names_in_options(line.only_binary, root)),
            no_build_isolation=_sorted(root.name for root, line in options if line.no_build_isolation and root.name),
            fallbacks=self._fallbacks(case),
            stubs=f"{WORK}/stubs",
            offline=self.offline,
        )
        project.write(case.folder)
        self._write_stubs(case.folder / "stubs", kept)
        return project

    def _at_commit(self, text: str) -> str:
        """The requirement with the commit of the last lock, if it asks for the same revision as then."""
        split = split_revision(text)
        if split is None:
            return text
        before, url, revision, after = split
        commit = self.commits.get((without_credentials(url), revision))
        return text if commit is None else f"{before}{url}@{commit}{after}"

    def _fallbacks(self, case: _Case) -> tuple[Index, ...]:
        """Scoped indexes, asked last: for dependencies that no shared index has, as uv's pins hold for roots only.

        Not where the image has uv compare all indexes: then there is no last.
        """
        strategies = {request.environment.get("UV_INDEX_STRATEGY", "first-index") for request in case.requests}
        if strategies != {"first-index"} or case.plan.shared.default is None:
            return ()
        return tuple(index for index in case.plan.fallbacks if not index.flat)

    def _write_stubs(self, folder: Path, kept: Collection[str]) -> None:
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for item in self.python.installed:
            if item.name in kept:
                write_stub(folder, name=item.name, version=item.version, requires=item.requires, extras=item.extras)
        if self.offline:
            for package in self.previous:
                wheel = wheel_of(package)
                blob = self.store.find_blob(f"sha256:{wheel.sha256}")
                if blob is not None and package.name not in kept:
                    found = read_wheel_metadata(blob, wheel.name)
                    write_stub(
                        folder, name=found.name, version=found.version, requires=found.requires, extras=found.extras
                    )

    def _constraint_files(self, requests: Sequence[PipRequest]) -> list[ScopedRequirement]:
        """The file of `PIP_CONSTRAINT` in the container, as vendors' images have it. UV_CONSTRAINT uv reads itself."""
        found: dict[str, ScopedRequirement] = {}
        for request in requests:
            for path in request.environment.get("PIP_CONSTRAINT", "").split():
                content = self.workspace.read(path.removeprefix("file://"))
                if content is None:
                    raise ResolutionError(f"PIP_CONSTRAINT names {path}, which is not in the environment")
                for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
                    text = line.partition(" #")[0].strip()
                    if text and not text.startswith(("#", "-")):
                        found.setdefault(text, ScopedRequirement(text=text, origin=f"{path}:{number}"))
        return list(found.values())

    # -- the asking

    def _uv(self, case: _Case, project: UvProject, arguments: list[str]) -> tuple[int, str]:
        environment = dict(case.requests[-1].environment) if case.requests else {}
        variables = {n: v for r in case.requests for n, v in r.environment.items() if n in _PASSED_ON}
        ended = run_uv(
            self.workspace,
            arguments,
            work=case.folder,
            variables=environment,
            more={**variables, **project.variables(self.credentials)},
            network=Network.NONE if self.offline else Network.HOST,
            netrc=self.netrc,
        )
        return ended.status, ended.output

    def _promote(self, output: str, plan: ScopePlan, pages: IndexPages, *, known: Collection[str]) -> dict[str, Index]:
        """Dependencies in no shared index that a scoped index has: uv's sources hold for direct requirements only."""
        found = {}
        for name in map(canonicalize_name, missing_projects(output)):
            if name not in known:
                index = next((index for index in plan.fallbacks if pages.offers(index, name)), None)
                if index is not None:
                    found[str(name)] = index
        return found

    def _check_scopes(self, case: _Case, project: UvProject, index: Mapping[str, str | None]) -> None:
        """A requirement is not answered by an index that another requirement has for itself."""
        shared = {i.url for i in (*project.settings.extras, project.settings.default) if i is not None}
        scoped = {fallback.url for fallback in project.fallbacks} - shared
        for root in case.roots:
            if root.name and root.name not in project.pins and index.get(root.name) in scoped:
                raise ResolutionError(
                    f"{root.scoped.origin}: {root.name} is in no index that this requirement may use",
                    hint=f"{index[root.name]} has it, but is named for other requirements: name it for this one too",
                )

    def _list_folder(self, path: str) -> list[str]:
        listed = self.workspace.run(
            Command(argv=("/bin/sh", "-c", 'ls -1 -- "$1"', "sh", path), environment=python_environment({}))
        )
        return listed.output.decode("utf-8", "replace").splitlines() if listed.status == 0 else []

    # -- the answer

    def _indexes(self, case: _Case, project: UvProject, selected: Sequence[SelectedPackage]) -> dict[str, str | None]:
        default = project.settings.default.url if project.settings.default else None
        found: dict[str, str | None] = {
            p.name: None if p.direct else project.pins[p.name].url if p.name in project.pins else default
            for p in selected
        }
        if project.settings.extras or project.settings.find_links or project.fallbacks:
            replace(project, preferences={p.name: p.version for p in selected if p.version}).write(case.folder)
            annotated = case.folder / "annotated.txt"
            annotated.write_text("".join(f"{p.name}=={p.version}\n" for p in selected if not p.direct), "utf-8")
            arguments = project.annotation_arguments(python=self.python.interpreter.path)
            status, output = self._uv(case, project, [*arguments, "--output-file", annotated.name])
            if status != 0:
                raise ResolutionError(f"uv's second answer differs from its first: {self.credentials.mask(output)}")
            found.update(_annotations(annotated.read_text("utf-8")))
        return {name: None if url and url.startswith(f"file://{WORK}") else url for name, url in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What stays the same from one attempt to the next."""

    requests: Sequence[PipRequest]
    roots: Sequence[Root]
    plan: ScopePlan
    folder: Path


def _annotations(text: str) -> dict[str, str]:
    """`name==version` followed by `# from INDEX`."""
    found = {}
    name = ""
    for line in text.splitlines():
        if not line.startswith((" ", "#")):
            name = canonicalize_name(line.partition("==")[0].partition("[")[0].partition(" @")[0].strip())
        elif line.strip().startswith("# from "):
            found[name] = line.strip().removeprefix("# from ")
    return found


def _hashes(roots: Iterable[Root]) -> dict[str, tuple[str, ...]]:
    return {root.name: root.scoped.hashes for root in roots if root.name and root.scoped.hashes}


def _is_prerelease(version: str) -> bool:
    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return False


def _sorted(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name}))
