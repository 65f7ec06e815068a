"""Asks uv, inside the environment and for its own Python, until its answer stands.

uv's first answer may have to be asked for differently: a distribution of the base that is in the way is given up, a
dependency that only a scoped index has is looked for there. Each turn of the loop does one of these, so it ends.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from klock.errors import FetchError, KlockError, RequirementError, ResolutionError
from klock.packages.composing import Case, all_constraints, compose
from klock.packages.credentials import Credentials
from klock.packages.explanations import Asked, error_from_uv, missing_projects, warnings_from_uv
from klock.packages.index_pages import IndexPages
from klock.packages.indexes import Index, IndexSettings, ScopePlan, plan_scopes
from klock.packages.interpreter import python_environment
from klock.packages.no_wheel import has_wheels, why_no_wheel
from klock.packages.overriding import Overriding
from klock.packages.question import Question, World
from klock.packages.replacing import held_by_constraints, refuse_replacements
from klock.packages.request import PipRequest, ScopedRequirement, parse_requirement
from klock.packages.roots import Root, constraints_in, name_of, roots_in
from klock.packages.selection import SelectedFile, SelectedPackage, select_artifacts
from klock.packages.uv import UvRun, run_uv
from klock.packages.uv_outside import lies_inside, may_run_outside, run_uv_outside
from klock.packages.uv_project import UvProject
from klock.packages.yanks import yanked_files
from klock.temporary import temporary_folder
from klock.values import dataclass
from klock.workshop.handover import hand_in, take_out
from klock.workshop.protocol import Command

# For what has to be asked inside the environment.
if TYPE_CHECKING:
    from klock.packages.learnt import Learnt
    from klock.recorder import Links, Passes, Reach

__all__ = ["Answer", "Resolver"]

_ANNOTATED: Final = "annotated.txt"
_MOST: Final = 256 << 20
"""The most bytes of an answer."""

_PASSED_ON: Final = (
    *("UV_INDEX_STRATEGY", "UV_RESOLUTION", "UV_EXCLUDE_NEWER", "UV_TORCH_BACKEND"),
    *("UV_NO_BUILD", "UV_NO_BUILD_PACKAGE", "UV_NO_BINARY", "UV_NO_BINARY_PACKAGE", "UV_BUILD_CONSTRAINT"),
    *("UV_CONSTRAINT", "UV_OVERRIDE", "UV_NO_BUILD_ISOLATION"),
    *("UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES"),
)
"""What steers resolution in the container's own variables and is uv's to understand; a later step's value wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What uv chose. `index` tells the index each project is from; None for a direct reference. `learnt` is what uv was
    told of some of the packages."""

    packages: tuple[SelectedPackage, ...]
    index: Mapping[str, str | None]
    warnings: tuple[str, ...]
    learnt: tuple[Learnt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Resolves requests in one world. `preferences` are versions to keep where they fit, by project. `learnt` is what
    uv is told where it cannot build."""

    world: World
    question: Question
    credentials: Credentials
    preferences: Mapping[str, str]
    learnt: tuple[Learnt, ...] = ()

    @property
    def passes(self) -> Passes | None:
        """The way to the indexes; None offline."""
        world = self.world
        if world.offline:
            return None
        from klock.packages.passes import passes_with

        return passes_with(
            self.credentials, store=world.store, ca_bundle=world.ca_bundle, local_hosts=world.local_hosts
        )

    def ask(self, requests: Sequence[PipRequest], *, use_installed: bool = True) -> Answer:
        """uv's answer for all `requests` together. Without `use_installed` the base counts as empty.

        Raises RequirementError, ResolutionError or FetchError, naming the requirements in question and their lines.
        """
        is_still = self.world.workspace.known is not None
        answer = None if is_still else self._answer(requests, use_installed=use_installed, is_outside=True)
        if answer is None:
            answer = self._answer(requests, use_installed=use_installed, is_outside=is_still)
        assert answer is not None
        return answer

    def _answer(self, requests: Sequence[PipRequest], *, use_installed: bool, is_outside: bool) -> Answer | None:
        """uv's answer. None where it can only be had inside the environment, and it was asked on this machine."""
        world = self.world
        is_first = is_outside and world.workspace.known is None
        roots = roots_in(world.python, requests, Overriding.of(requests, world.workspace.read))
        pages = self.pages()
        base = world.python.versions
        given_up = self._given_up_at_once(requests, roots) if use_installed else {*base}
        promoted: dict[str, Index] = {}
        learnt = self.learnt if is_first else ()
        with temporary_folder("resolve") as folder:
            case = Case(
                world=world,
                question=self.question,
                requests=requests,
                roots=roots,
                plan=self._plan(requests, roots, pages),
                preferences=self.preferences,
                folder=folder,
                links=None if is_outside else _no_links(),
                is_outside=is_outside,
            )
            if is_first:
                if not may_run_outside(case):
                    return None
            elif is_outside and (inside := lies_inside(case)):
                raise RequirementError(
                    f"{self.credentials.mask(inside)}: it lies in the environment, where klock cannot run uv",
                    hint="name packages by version or by an https:// URL; or lock on a machine that can run the image",
                )
            while True:
                kept = base.keys() - given_up
                pinned = {*case.plan.pins, *promoted}
                project = compose(case, kept=kept, promoted=promoted, learnt=learnt)
                with world.progress.stage("resolve"):
                    ended = self._run(case, project, project.arguments(python=self._python(case)))
                if ended.status == 0:
                    pylock = _left(case, "pylock.toml")
                    selected = self._select(case, project, pylock)
                    by_name = {package.name: package for package in selected}
                    chosen = tuple(each for each in learnt if each.is_of(by_name.get(each.metadata.name)))
                    if chosen != learnt:
                        learnt = chosen  # of the others nobody knows whether it still is so
                        continue
                    replaced = {p.name for p in selected if p.name in kept and p.version != base[p.name]}
                    given_up |= replaced
                    # What was said of them so far was for the base's version, not for one of an index.
                    if not replaced & {*pinned, *project.prereleases}:
                        break
                elif found := self._found_elsewhere(ended.output, case.plan, pages, known=pinned):
                    promoted |= found
                elif (in_the_way := kept & pinned) and not self.question.keep_base:
                    given_up |= in_the_way
                elif is_first:
                    return None
                else:
                    raise self._error(ended, case, pages)
            index = self._indexes(case, project, selected)
            yanked = self._yanked(project, selected, index, pages)
            good = self._without(case, project, pylock, yanked) if yanked else selected
            self._check_answer(case, project, good)
        self._check_scopes(case, project, index)
        mended = tuple(f"`{old.name}=={old.version}` is yanked" for old in selected if old not in good)
        said = [w for w in warnings_from_uv(self.credentials.mask(ended.output)) if not w.startswith(mended)]
        if ended.refused:
            from klock.packages.reaching import strangers

            said += [f"while uv resolved, klock refused a request: {sentence}" for sentence in strangers(ended.refused)]
        return Answer(packages=tuple(map(self._as_written, good)), index=index, warnings=tuple(said), learnt=learnt)

    def _as_written(self, package: SelectedPackage) -> SelectedPackage:
        """What was asked for by its URL, at that URL and not at the mirror's."""
        source = package.source
        if not package.direct or not isinstance(source, SelectedFile):
            return package
        return replace(package, source=replace(source, url=self.world.mirrors.back(source.url)))

    def _python(self, case: Case) -> str:
        """The Python that uv is shown: the environment's, or klock's own on this machine."""
        return sys.executable if case.is_outside else self.world.python.interpreter.path

    # -- before the first attempt

    def _plan(self, requests: Sequence[PipRequest], roots: Sequence[Root], pages: IndexPages) -> ScopePlan:
        """The indexes of the lines that apply to this environment: those of any other must not count here."""
        if self.world.offline:
            return ScopePlan(shared=IndexSettings(default=None), pins={}, fallbacks=())
        here = [
            replace(request, requirements=tuple(root.scoped for root in roots if root.step == number))
            for number, request in enumerate(requests)
        ]
        return plan_scopes(here, name_of=name_of, offers=pages.offers, default=self.question.default_index)

    def _given_up_at_once(self, requests: Sequence[PipRequest], roots: Sequence[Root]) -> set[str]:
        """Distributions of the base that cannot or must not stay: not allowed by a root, or asked for anew."""
        found = {}
        for own in (own for request in requests for own in request.own):
            if (installed := self.world.python.versions.get(own.name)) is not None:
                found[own.name] = f"{own.name} is a project of the image: the base has {installed}"
        held = held_by_constraints(requests, self.world.python, self.world.workspace.read)
        for root in roots:
            installed = self.world.python.versions.get(root.name or "")
            if root.name is not None and installed is not None:
                anew = requests[root.step].force or (root.scoped.options.upgrade and root.name not in held)
                if anew or not root.allows(installed):
                    found[root.name] = f"{root.scoped.origin}: {root.scoped.text}: the base has {installed}"
        if self.question.keep_base:
            refuse_replacements([self.credentials.mask(text) for text in found.values()])
        return set(found)

    def _list_folder(self, path: str) -> list[str]:
        listed = self.world.workspace.run(
            Command(argv=("/bin/sh", "-c", 'ls -1 -- "$1"', "sh", path), environment=python_environment({}))
        )
        return listed.output.decode("utf-8", "replace").splitlines() if listed.status == 0 else []

    # -- an attempt

    def _run(self, case: Case, project: UvProject, arguments: list[str]) -> UvRun:
        environment = case.requests[-1].open_environment if case.requests else {}
        variables = _passed_on(case)
        if case.is_outside:
            known = {**variables, **project.variables, **self._credential_variables(project)}
            alone = self.world.workspace.known is None
            return run_uv_outside(
                arguments, work=case.folder, world=self.world, more=known, must_be_alone=alone, refresh=project.refresh
            )
        passes = self.passes
        return run_uv(
            self.world.workspace,
            arguments,
            work=case.folder,
            variables=environment,
            more={**variables, **project.variables},
            passes=passes and replace(passes, reach=_reach(case, project, variables)),
        )

    def _check_answer(self, case: Case, project: UvProject, selected: Sequence[SelectedPackage]) -> None:
        """Where something else may have run beside uv."""
        if not self.world.offline and not case.is_outside:
            from klock.packages.reaching import check_answer

            variables = _passed_on(case)
            overridden = bool(project.overrides) or "UV_OVERRIDE" in variables
            check_answer(selected, case.roots, _reach(case, project, variables), overridden=overridden)

    def _credential_variables(self, project: UvProject) -> dict[str, str]:
        """On this machine nobody adds credentials to what uv asks: it is told those of its indexes."""
        found: dict[str, str] = {}
        for url, name in project.named_indexes():
            if (pair := self.credentials.find(url)) is not None:
                found |= {f"UV_INDEX_{name.upper()}_USERNAME": pair[0], f"UV_INDEX_{name.upper()}_PASSWORD": pair[1]}
        return found

    def _select(
        self, case: Case, project: UvProject, pylock: str, *, without: Mapping[str, Collection[str]] | None = None
    ) -> tuple[SelectedPackage, ...]:
        selected = select_artifacts(
            pylock,
            markers=self.world.python.markers,
            tags=self.world.python.tags,
            from_source=project.no_binary,
            hashes=_allowed_hashes((*case.roots, *constraints_in(self.world.python, case.requests))),
            without=without,
        )
        return tuple(package for package in selected if package.name not in case.own)

    def _found_elsewhere(
        self, output: str, plan: ScopePlan, pages: IndexPages, *, known: Collection[str]
    ) -> dict[str, Index]:
        """Dependencies in no shared index that a scoped index has: uv's sources hold for direct requirements only."""
        found = {}
        for name in map(canonicalize_name, missing_projects(output)):
            if name not in known:
                index = next((index for index in plan.fallbacks if pages.offers(index, name)), None)
                if index is not None:
                    found[str(name)] = index
        return found

    def _error(self, ended: UvRun, case: Case, pages: IndexPages) -> KlockError:
        settings, pins = case.plan.shared, case.plan.pins
        # uv does not tell of an index that is for some projects alone that it refused to answer.
        for name in pins.keys() & {*missing_projects(ended.output)} if not self.world.offline else ():
            pages.files(pins[name], name)
        shared = [*settings.extras, *([settings.default] if settings.default else []), *case.plan.fallbacks]

        def asked(scoped: ScopedRequirement) -> Asked:
            root = parse_requirement(scoped)
            name = canonicalize_name(root.name) if root else None
            return Asked(name=name, text=self.credentials.mask(scoped.text), origin=scoped.origin)

        def why_no_wheel(name: str, version: str) -> str:
            indexes = [pins[name]] if name in pins else shared
            return self.why_no_wheel(name, version, indexes, pages)

        return error_from_uv(
            self.credentials.mask(ended.output),
            requirements=[asked(root.scoped) for root in case.roots],
            constraints=[asked(scoped) for scoped in all_constraints(case)],
            refused=ended.refused,
            offline=self.world.offline,
            keeps_base=self.question.keep_base,
            why_no_wheel=why_no_wheel,
            empty_page=lambda name: pages.without_files([pins[name]] if name in pins else shared, name),
        )

    def why_no_wheel(self, name: str, version: str, indexes: Sequence[Index], pages: IndexPages | None = None) -> str:
        """Why `version` has no wheel for the environment's Python, by the first index that has the project; empty where
        nobody knows. Is asked when something failed: that this fails too is no news."""
        pages = pages or self.pages()
        for index in indexes:
            with contextlib.suppress(FetchError):
                files = pages.files(index, name)
                if files is not None:
                    return why_no_wheel(version, [file.name for file in files], self.world.python.tags)
        return ""

    def has_only_source(self, name: str, version: str, index: Index) -> bool:
        """Whether an index has `version`, and no wheel of it for anybody. False where nobody knows."""
        with contextlib.suppress(FetchError):
            files = self.pages().files(index, name)
            return files is not None and not has_wheels(version, [file.name for file in files])
        return False

    def pages(self) -> IndexPages:
        return IndexPages(credentials=self.credentials, list_folder=self._list_folder, offline=self.world.offline)

    # -- after the last one

    def _indexes(self, case: Case, project: UvProject, selected: Sequence[SelectedPackage]) -> dict[str, str | None]:
        """The index that each project is from. Where there are several that uv may choose from, it is asked again."""
        default = project.settings.default.url if project.settings.default else None
        found: dict[str, str | None] = {
            p.name: None if p.direct else project.pins[p.name].url if p.name in project.pins else default
            for p in selected
        }
        if project.settings.extras or project.settings.find_links or project.fallbacks:
            replace(project, preferences={p.name: p.version for p in selected if p.version}).write(case.folder)
            known = "".join(f"{p.name}=={p.version}\n" for p in selected if not p.direct)
            hand_in(case.folder, _ANNOTATED, known.encode())
            arguments = project.annotation_arguments(python=self._python(case))
            ended = self._run(case, project, [*arguments, "--output-file", _ANNOTATED])
            if ended.status != 0:
                words = self.credentials.mask(ended.output)
                raise ResolutionError(f"uv's second answer differs from its first: {words}")
            read = _annotations(_left(case, _ANNOTATED))
            found.update({name: self.world.mirrors.back(url) for name, url in read.items()})
        stubs = f"file://{case.seen_folder}"
        return {name: None if url and url.startswith(stubs) else url for name, url in found.items()}

    def _yanked(
        self,
        project: UvProject,
        selected: Sequence[SelectedPackage],
        index: Mapping[str, str | None],
        pages: IndexPages,
    ) -> Mapping[str, Collection[str]]:
        if self.world.offline:
            return {}
        known = {each.url: each for each in (*project.settings.find_links, *project.pins.values())}
        indexes = {name: known.get(url, Index(url=url)) for name, url in index.items() if url is not None}
        return yanked_files(selected, indexes, pages)

    def _without(
        self, case: Case, project: UvProject, pylock: str, yanked: Mapping[str, Collection[str]]
    ) -> tuple[SelectedPackage, ...]:
        """The answer without the files of `yanked`, of the projects that have another one that fits."""
        selected = self._select(case, project, pylock)
        without: dict[str, Collection[str]] = {}
        for name, files in yanked.items():
            with contextlib.suppress(ResolutionError):
                selected = self._select(case, project, pylock, without={**without, name: files})
                without[name] = files
        return selected

    def _check_scopes(self, case: Case, project: UvProject, index: Mapping[str, str | None]) -> None:
        """A requirement is not answered by an index that another requirement has for itself."""
        shared = {i.url for i in (*project.settings.extras, project.settings.default) if i is not None}
        scoped = {fallback.url for fallback in project.fallbacks} - shared
        for root in case.roots:
            if root.name and root.name not in project.pins and index.get(root.name) in scoped:
                raise ResolutionError(
                    f"{root.scoped.origin}: {root.name} is in no index that this requirement may use",
                    hint=f"{index[root.name]} has it, but is named for other requirements: name it for this one too",
                )


def _no_links() -> Links:
    from klock.recorder import Links

    return Links()


def _reach(case: Case, project: UvProject, variables: Mapping[str, str]) -> Reach:
    """What uv may ask for inside the environment."""
    from klock.packages.reaching import reach_of

    assert case.links is not None
    return reach_of(project, variables, case.links)


def _allowed_hashes(lines: Sequence[Root]) -> dict[str, set[str]]:
    """What the lines of each project leave over together, of SHA-256, which indexes tell."""
    allowed: dict[str, set[str]] = {}
    for line in lines:
        hashes = {each for each in line.scoped.hashes if each.startswith("sha256:")}
        if line.name is not None and hashes:
            allowed[line.name] = hashes & allowed.get(line.name, hashes)
    return allowed


def _left(case: Case, name: str) -> str:
    content = take_out(case.folder, name, most=_MOST)
    if content is None:
        raise ResolutionError(
            f"uv left no {name}", hint="a package that was built while uv resolved may have removed it"
        )
    return content.decode("utf-8", "replace")


def _passed_on(case: Case) -> dict[str, str]:
    given = [(n, v) for request in case.requests for n, v in request.environment.items()]
    # What allows pre-releases is for the requirements of its step: `compose` names them.
    return {n: v for n, v in given if n in _PASSED_ON or (n == "UV_PRERELEASE" and v != "allow")}


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
