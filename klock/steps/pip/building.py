"""Makes the wheels of a pip step that no index has: from locked sources, and of the projects that the image has.

A wheel that was built from source is taken from the store. If the store has lost it, it is built again from the locked
source with the locked build requirements, and must come out with the locked hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from klock.errors import FetchError, HashMismatch
from klock.lockfile.model import (
    Interpreter,
    LocalProject,
    LockedPackage,
    SdistArtifact,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
)
from klock.packages.build_system import BuildSystem, build_system_of_archive
from klock.packages.builds import Archive, Repository, Source, build_room
from klock.packages.projects import build_projects
from klock.packages.wheels import wheel_of
from klock.recorder import Passes
from klock.store import Store
from klock.values import dataclass
from klock.workshop.protocol import Workspace

__all__ = ["WheelMaker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelMaker:
    """Makes wheels of the packages in `known`, by their pins. `variables` are the container's at the step.

    Without `passes` no repository is cloned.
    """

    known: Mapping[str, LockedPackage]
    interpreter: Interpreter
    store: Store
    variables: Mapping[str, str]
    passes: Passes | None = None

    @classmethod
    def of(
        cls,
        lock: TargetLock,
        interpreter: Interpreter,
        store: Store,
        variables: Mapping[str, str],
        passes: Passes | None,
    ) -> WheelMaker:
        return cls(known=lock.packages_by_pin, interpreter=interpreter, store=store, variables=variables, passes=passes)

    def missing(self, pins: Iterable[str]) -> list[LockedPackage]:
        """Those whose wheel the store has not."""
        packages = [self.known[pin] for pin in pins]
        return [p for p in packages if self.store.find_blob(f"sha256:{wheel_of(p).sha256}") is None]

    def make(self, packages: Sequence[LockedPackage], workspace: Workspace) -> None:
        """Builds the missing wheels of source distributions and commits, and takes up those inside the environment.

        Raises StepFailed when a build fails, HashMismatch when it makes another wheel than the locked one, FetchError
        when something is missing.
        """
        for package in self.missing(package.pin for package in packages):
            artifact = package.artifact
            if not isinstance(artifact, WheelArtifact):
                self._build(package, artifact, workspace)
            elif artifact.url.startswith("file:"):
                self._take_up(artifact, workspace)

    def build_projects(self, projects: Sequence[LocalProject], workspace: Workspace) -> list[tuple[str, WheelArtifact]]:
        """The wheels of the projects, each with the name of its distribution; they are in the store then."""
        for project in projects:
            self.make([self.known[pin] for pin in project.build], workspace)
        return build_projects(
            projects,
            self.known,
            interpreter=self.interpreter,
            workspace=workspace,
            store=self.store,
            variables=self.variables,
        )

    def _take_up(self, wheel: WheelArtifact, workspace: Workspace) -> None:
        content = workspace.read(wheel.url.removeprefix("file://"))
        if content is None:
            raise FetchError(f"{wheel.name}: there is no file {wheel.url} in the environment")
        self.store.add_bytes(content, digest=f"sha256:{wheel.sha256}", source=wheel.url)

    def _build(self, package: LockedPackage, artifact: SdistArtifact | VcsArtifact, workspace: Workspace) -> None:
        source, system = self._source(artifact)
        requires = [self.known[pin] for pin in artifact.build]
        self.make(requires, workspace)
        room = build_room(
            workspace=workspace,
            store=self.store,
            python=self.interpreter.path,
            variables=self.variables,
            source=source,
            system=system,
            isolated=bool(artifact.build),
        )
        with room as build:
            if isinstance(source, Repository):
                assert self.passes is not None
                build = replace(build, system=build.clone(self.passes))
            build.install(requires)
            wheel = build.build()
        if wheel.sha256 != artifact.wheel.sha256:
            raise HashMismatch(
                f"{package.pin} was built again from its locked source and is now sha256:{wheel.sha256}, "
                f"not the locked sha256:{artifact.wheel.sha256}",
                hint="get the built wheel from a vault, or lock a version that has a wheel: this build does not repeat "
                "itself",
            )
        self.store.keep_blob(f"sha256:{wheel.sha256}")

    def _source(self, artifact: SdistArtifact | VcsArtifact) -> tuple[Source, BuildSystem]:
        if isinstance(artifact, VcsArtifact):
            if self.passes is None:
                raise FetchError(
                    f"the wheel of {artifact.url} is not in the store", hint="run the command once without --offline"
                )
            return Repository(
                url=artifact.url, commit=artifact.commit, subdirectory=artifact.subdirectory
            ), BuildSystem()
        blob = self.store.find_blob(f"sha256:{artifact.sha256}")
        if blob is None:
            raise FetchError(f"{artifact.name} is not in the store", hint="run the command once without --offline")
        within = artifact.subdirectory
        system = build_system_of_archive(blob, artifact.name, within)
        return Archive(path=blob, name=artifact.name, subdirectory=within), system
