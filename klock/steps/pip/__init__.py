"""`pip_install`: requirements, resolved together for the whole image, one artifact locked for each package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Set
from typing import TYPE_CHECKING, Any, Final

from klock.digests import Digest
from klock.errors import RequirementError
from klock.findings import Finding
from klock.image.steps import PipInstall
from klock.lockfile.model import LayerLock, LockedFile, LockedPackage, PipLock, VcsArtifact, WheelArtifact
from klock.project_names import normalised_name
from klock.secrets.references import redact_index
from klock.steps.at import StepAt
from klock.steps.kind import UNKNOWN_LAYER, Fetched, Input, Kind, Look, OpenBelow, Writes, layer_lock_of, ways_of
from klock.steps.parts import Part, Sort, part_of_package
from klock.steps.staleness import changed_files, changed_options, stale
from klock.values import replace
from klock.words import first_of, some

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.image.requirement_files import RequirementInputs
    from klock.layers.manifest import Manifest
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.kind import RunningSystem
    from klock.steps.locking import Locking
    from klock.steps.newer import Looking, Newer
    from klock.workshop.protocol import Layer, Workspace

__all__ = ["KIND"]

_ONLY_WITH_KEYS: Final = re.compile(r"git\+(?:ssh|git)://", re.IGNORECASE)

# `-r`, `-c` and their long and short forms, or a variable: what has to be read to know what the step depends on.
_WORD: Final = re.compile(r"(?<![\w./:-])[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?")
_NAMES_INPUTS: Final = re.compile(r"(^|\s)['\"]?(-[rc]|--req|--con|--group)|\$")


class PipKind(Kind[PipInstall, PipLock]):
    method = "pip_install"
    asks_python = True
    fetches = True
    is_composed = True
    can_be_taken_back = True

    def describe(self, step: PipLock) -> str:
        return "pip_install " + some(step.requirements)

    def draft(self, step: PipInstall, drafting: Drafting) -> PipLock:
        inputs = _read_inputs(step, drafting)
        redacted = [redact_index(line, drafting.environ, what="a requirement") for line in step.requirements]
        return PipLock(
            requirements=tuple(r.text for r in redacted),
            packages=(),
            layer=UNKNOWN_LAYER,
            files=tuple(LockedFile(path=f.path, digest=f.digest) for f in (inputs.files if inputs else ())),
            secrets=tuple(sorted({*(inputs.variables if inputs else ()), *(n for r in redacted for n in r.names)})),
            force=step.force,
            leave_out=step.leave_out,
            keep_layer=step.keep_layer,
        )

    def as_draft(self, step: PipLock) -> PipLock:
        return replace(step, packages=(), projects=(), layer=UNKNOWN_LAYER, kept=None)

    def changes(self, before: PipLock, after: PipLock) -> Iterator[Finding]:
        removed = [r for r in before.requirements if r not in after.requirements]
        added = [r for r in after.requirements if r not in before.requirements]
        for requirement in added:
            yield stale(f"requirement {requirement} is not in the lockfile")
        for requirement in removed:
            yield stale(f"requirement {requirement} is in the lockfile, not in the image")
        if not added and not removed and before.requirements != after.requirements:
            yield stale("the requirements are in another order")
        old = {f.path: f.digest for f in before.files}
        new = {f.path: f.digest for f in after.files}
        yield from changed_files(old, new)
        yield from changed_options(before, after)

    def parts(self, at: StepAt[PipLock]) -> Iterator[Part]:
        from klock.steps.pip.behind import packages_behind

        yield from super().parts(at)
        yield from map(part_of_package, packages_behind(at))
        for project in at.step.projects:
            yield Part(sort=Sort.PACKAGE, name=project.name, value=f"{project.version or 'built'} from {project.path}")

    def asks_for(self, step: PipLock) -> frozenset[str]:
        """Also words that are not packages, such as a version: whoever asks looks for names that are locked."""
        words = (word for line in step.requirements for word in _WORD.findall(line))
        return frozenset([*map(normalised_name, words), *(project.name for project in step.projects)])

    def looks_into(self, step: PipLock) -> Iterator[str]:
        """Settings of uv may be in any folder above a project."""
        yield from (file.path.rpartition("/")[0] for file in step.files if file.path.endswith("pyproject.toml"))

    # -- locking

    def check(self, step: PipInstall, drafting: Drafting) -> None:
        """A draft reads no more of the requirements than it has to."""
        from klock.image.requirement_files import read_requirements
        from klock.image.requirements import UrlRequirement

        for requirement in read_requirements(step, drafting.root, drafting.environ).requirements:
            if isinstance(requirement, UrlRequirement) and _ONLY_WITH_KEYS.match(requirement.url.url):
                raise RequirementError(
                    f"{requirement.where}: {requirement.url.url} cannot be cloned: klock clones over HTTP and HTTPS "
                    "only, and takes no SSH key into the sandbox",
                    hint="write git+https://, and give a token by netrc or in the URL: "
                    "git+https://{os.environ['TOKEN']}@HOST/...",
                )

    def complete(self, draft: PipLock, locking: Locking) -> PipLock:
        """All pip steps are resolved with the first of them, so that a later one never changes an earlier one."""
        from klock.steps.pip.resolving import PipSteps

        step = locking.shared(self, lambda: PipSteps(locking)).complete(locking)
        if locking.context.strict:
            self._refuse_clashes(locking.at(step), locking.context)
        return step

    def result(self, step: PipLock) -> str:
        """`numpy==2.1.0, six==1.17.0 and 4 more, 812 entries`"""
        names = first_of(step.packages)
        return f"{names}, {super().result(step)}" if names else super().result(step)

    def moved(self, at: StepAt[PipLock], context: Context, asker: Asker) -> Iterator[Finding]:
        from klock.steps.pip.moved import moved_files

        return moved_files(at, context, asker)

    def newer(self, at: StepAt[PipLock], looking: Looking) -> Iterator[Newer]:
        from klock.steps.pip.newer import newer_packages

        return newer_packages(at, looking)

    def repeats(self, at: StepAt[PipLock]) -> bool:
        """Wheels are laid out as they are; a local project is built anew each time."""
        return not at.step.projects

    def is_made_of_notes(self, at: StepAt[PipLock]) -> bool:
        """Unless its trees are so many that their files are joined."""
        from klock.workshop.joining import MOST

        return len(at.step.packages) <= MOST and not self.needs_isolation(at) and not self.keeps_layer(at.step)

    def _refuse_clashes(self, at: StepAt[PipLock], context: Context) -> None:
        from klock.steps.pip.composing import Composition

        self.fetch(at, context)
        for clash in Composition(at=at, context=context).clashes():
            raise at.failed(f": {clash}", hint="leave one of them out, or lock without --strict")

    def locked_layer(self, step: PipLock, manifest: Manifest) -> LayerLock:
        """A layer of wheels needs no sketch: the lockfile has the hash of each."""
        return layer_lock_of(manifest, sketched=bool(step.projects))

    # -- replay

    def content(self, at: StepAt[PipLock], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        from klock.lockfile.codec import encode

        packages, step = at.lock.packages_by_pin, at.step
        artifacts = [encode(packages[pin].artifact) for pin in step.packages]
        projects = [encode(project) for project in step.projects]
        return ["pip_install", python_path, install_cmd, artifacts, projects, step.force, *ways_of(step)]

    def fetched(self, at: StepAt[PipLock]) -> Iterator[Fetched]:
        by_pin = at.lock.packages_by_pin
        yield from (by_pin[pin] for pin in at.step.packages)

    def inputs_to_run(self, at: StepAt[PipLock]) -> Iterator[Input]:
        for package in _packages_of(at):
            yield from inputs_of_package(package)

    def built(self, at: StepAt[PipLock]) -> Iterator[Input]:
        for package in _packages_of(at):
            if not isinstance(package.artifact, WheelArtifact):
                wheel = package.artifact.wheel
                name = f"{wheel.name} (built)"
                yield Input(digest=f"sha256:{wheel.sha256}", size=wheel.size, name=name, permanent=False)

    def fetch(self, at: StepAt[PipLock], context: Context) -> None:
        from klock.packages import fetch_packages
        from klock.steps.pip.credentials import index_credentials

        fetch_packages(
            _packages_of(at),
            store=context.store,
            all_packages=at.lock.packages,
            credentials=index_credentials([at], context),
            offline=context.offline,
            progress=context.progress,
        )

    def bring_in(
        self, at: StepAt[PipLock], wanted: Set[Digest], context: Context, *, open_below: OpenBelow
    ) -> Iterator[Callable[[], None]]:
        from klock.steps.pip.bringing import build_wheels, fetch_wanted

        yield lambda: fetch_wanted(at, wanted, context)
        yield lambda: build_wheels(at, wanted, context, open_below)

    def produce(
        self, at: StepAt[PipLock], context: Context, *, varied: bool = False, look: Look = lambda _: None
    ) -> Layer:
        from klock.steps.leaks import refuse_leaks
        from klock.steps.pip.composing import Composition

        self.fetch(at, context)
        composition = Composition(at=at, context=context, varied=varied)
        layer = composition.layer()
        look(composition)
        refuse_leaks(at, composition, context)
        return layer

    # -- in a running system

    def needs_isolation(self, at: StepAt[PipLock]) -> bool:
        """A build runs what a package brings."""
        artifacts = (package.artifact for package in _packages_of(at))
        return bool(at.step.projects) or any(not isinstance(artifact, WheelArtifact) for artifact in artifacts)

    def perform_in(self, at: StepAt[PipLock], workspace: Workspace, system: RunningSystem, context: Context) -> None:
        from klock.steps.leaks import refuse_leaks
        from klock.steps.pip.composing import Composition
        from klock.temporary import temporary_folder

        self.fetch(at, context)
        with temporary_folder("wheels", within=context.store.tmp) as folder:
            Composition(at=at, context=context).put_into(workspace, system.manifest, folder)
        refuse_leaks(at, workspace, context)

    def as_locked(self, manifest: Manifest) -> Manifest:
        """Without what is derived of the wheels' files: folders, and bytecode of their modules."""
        from klock.layers.manifest import Kind as EntryKind
        from klock.layers.manifest import Manifest
        from klock.layers.rewriting.bytecode import source_of

        return Manifest(
            entry
            for path, entry in manifest.items()
            if entry.kind is not EntryKind.FOLDER and source_of(path) not in manifest
        )

    def writes(self, at: StepAt[PipLock], system: RunningSystem, context: Context) -> Writes:
        from klock.steps.pip.writing import writes_of_packages

        return writes_of_packages(at, system, context.store)

    def installs(self, at: StepAt[PipLock]) -> frozenset[str]:
        by_pin, step = at.lock.packages_by_pin, at.step
        return frozenset([*(by_pin[pin].name for pin in step.packages), *(project.name for project in step.projects)])

    # -- export

    def export(self, at: StepAt[PipLock], exporting: Exporting) -> None:
        from klock.steps.pip.export import write_pip_step

        write_pip_step(at, exporting)


def inputs_of_package(package: LockedPackage) -> Iterator[Input]:
    """The wheel that is fetched, or what is built. An earlier step makes a file of the environment."""
    artifact = package.artifact
    # A commit has no bytes of its own, only the wheel it made.
    if not isinstance(artifact, VcsArtifact) and not artifact.url.startswith("file:"):
        yield Input(digest=f"sha256:{artifact.sha256}", size=artifact.size, name=artifact.name)


def _packages_of(at: StepAt[PipLock]) -> tuple[LockedPackage, ...]:
    """What the step installs, and what its local projects are built with."""
    by_pin, step = at.lock.packages_by_pin, at.step
    pins = [*step.packages, *(pin for project in step.projects for pin in project.build)]
    return tuple(by_pin[pin] for pin in dict.fromkeys(pins))


def _read_inputs(step: PipInstall, drafting: Drafting) -> RequirementInputs | None:
    """The files and variables that a step's requirements name; None when it names none, and nothing need be parsed."""
    if not any(_NAMES_INPUTS.search(line) for line in step.requirements):
        return None
    from klock.image.requirement_files import read_requirements

    return read_requirements(step, drafting.root, drafting.environ, locks=False)


KIND = PipKind()
