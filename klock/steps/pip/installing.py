"""Replays a pip step: its locked packages and local projects, in an environment, without network.

A wheel that was built from source is taken from the store. If the store has lost it, it is built again from the locked
source with the locked build requirements, and must come out with the locked hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from klock.digests import Digest
from klock.errors import FetchError, HashMismatch
from klock.lockfile.model import Interpreter, LockedPackage, PipLock, SdistArtifact, VcsArtifact, WheelArtifact
from klock.packages.build_system import BuildSystem, build_system_of_archive
from klock.packages.builds import Archive, Repository, Source, build_room
from klock.packages.projects import install_projects
from klock.packages.wheel_install import install_wheels
from klock.packages.wheels import wheel_of
from klock.recorder import Passes
from klock.store import Store
from klock.workshop.protocol import Workspace

__all__ = ["install"]


def install(
    step: PipLock,
    packages: Iterable[LockedPackage],
    *,
    interpreter: Interpreter,
    workspace: Workspace,
    store: Store,
    variables: Mapping[str, str],
    passes: Passes | None = None,
    over: Sequence[Digest] | None = None,
) -> None:
    """Installs what `step` names over other versions that are there. `packages` are all of the target's; those of the
    step are in the store (`fetch_packages`). `variables` are the container's at this step, `over` the digests of the
    base and the layers that `workspace` shows, where they are known. Without `passes` no repository is cloned.

    Raises StepFailed when uv, a build or the environment's Python fails, HashMismatch when a wheel is built that is not
    the locked one, FetchError when something is missing.
    """
    known = {package.pin: package for package in packages}
    wanted = [known[pin] for pin in step.packages]
    maker = _Maker(
        known=known,
        interpreter=interpreter,
        workspace=workspace,
        store=store,
        variables=variables,
        passes=passes,
        over=over,
    )
    last = [package for package in wanted if _needs_environment(package) and not maker.has(package)]
    first = [package for package in wanted if package not in last]
    maker.install(first)
    for package in last:  # built against the environment, so after the rest is in it
        maker.install([package])
    for project in step.projects:
        maker.make([known[pin] for pin in project.build])
    install_projects(
        step.projects, known, interpreter=interpreter, workspace=workspace, store=store, variables=variables
    )


@dataclass(slots=True, kw_only=True)
class _Maker:
    """Installs packages, making the wheels that the store has not. `over` becomes None with the first build."""

    known: Mapping[str, LockedPackage]
    interpreter: Interpreter
    workspace: Workspace
    store: Store
    variables: Mapping[str, str]
    passes: Passes | None
    over: Sequence[Digest] | None

    def has(self, package: LockedPackage) -> bool:
        return self.store.find_blob(f"sha256:{wheel_of(package).sha256}") is not None

    def install(self, packages: Iterable[LockedPackage]) -> None:
        packages = list(packages)
        self.make(packages)
        install_wheels(
            [(package.name, package.version, wheel_of(package)) for package in packages],
            python=self.interpreter.path,
            workspace=self.workspace,
            store=self.store,
            variables=self.variables,
            over=self.over,
        )

    def make(self, packages: Iterable[LockedPackage]) -> None:
        """Builds the missing wheels of source distributions and commits, and takes up those inside the environment."""
        for package in packages:
            artifact = package.artifact
            if self.has(package):
                continue
            if not isinstance(artifact, WheelArtifact):
                self._build(package, artifact)
            elif artifact.url.startswith("file:"):
                self._take_up(artifact)

    def _take_up(self, wheel: WheelArtifact) -> None:
        content = self.workspace.read(wheel.url.removeprefix("file://"))
        if content is None:
            raise FetchError(f"{wheel.name}: there is no file {wheel.url} in the environment")
        self.store.add_bytes(content, digest=f"sha256:{wheel.sha256}", source=wheel.url)

    def _build(self, package: LockedPackage, artifact: SdistArtifact | VcsArtifact) -> None:
        source, system = self._source(artifact)
        requires = [self.known[pin] for pin in artifact.build]
        self.over = None  # a build may change anything
        self.make(requires)
        room = build_room(
            workspace=self.workspace,
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
        return Archive(path=blob, name=artifact.name), build_system_of_archive(blob, artifact.name)


def _needs_environment(package: LockedPackage) -> bool:
    return not isinstance(package.artifact, WheelArtifact) and not package.artifact.build
