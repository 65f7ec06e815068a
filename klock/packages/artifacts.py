"""Makes locked packages of uv's choices: what an index does not say of a file is found out, sources become wheels."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from klock.digests import Digest, digest_of_json, hashes_like
from klock.errors import FetchError, HashMismatch, ResolutionError
from klock.lockfile.model import LockedPackage, SdistArtifact, VcsArtifact, WheelArtifact
from klock.packages.build_failures import BuildFailed
from klock.packages.fetch import fetch_packages, fetch_unhashed
from klock.packages.indexes import Index
from klock.packages.placing import check_names
from klock.packages.question import World
from klock.packages.request import PipRequest, ScopedRequirement
from klock.packages.resolver import Resolver
from klock.packages.selection import SelectedFile, SelectedPackage, SelectedRepository
from klock.packages.wheels import metadata_of, read_wheel_metadata, wheel_of
from klock.store import Store
from klock.values import dataclass

# Most images are all wheels: what builds is imported when there is something to build.
if TYPE_CHECKING:
    from klock.packages.build_system import BuildSystem
    from klock.packages.builds import BuildRoom, Source
    from klock.recorder import Passes

__all__ = ["APART", "ArtifactLocker", "Built"]

APART: Final = 2.0
"""Seconds from the beginning of a build to that of the one that proves it: ZIP archives count by twos."""

_DEEPEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A wheel made from source and the packages that had to be there, all in the store."""

    wheel: WheelArtifact
    requires: tuple[LockedPackage, ...]


@dataclass(slots=True, kw_only=True)
class ArtifactLocker:
    """`request` is the step that the environment is that of: build requirements come from its indexes, and builds see
    its variables. `not_isolated` names projects that are built against the environment. `build_packages` collects what
    builds needed, by pin."""

    resolver: Resolver
    request: PipRequest
    not_isolated: frozenset[str] = frozenset()
    build_packages: dict[str, LockedPackage] = field(default_factory=dict)
    depth: int = 0

    @property
    def _world(self) -> World:
        return self.resolver.world

    @property
    def _store(self) -> Store:
        return self.resolver.world.store

    def lock(self, package: SelectedPackage, index: str | None, *, asked: str = "") -> LockedPackage:
        """Raises FetchError, HashMismatch, or StepFailed when a build fails. `asked` is the line that asks for it."""
        if (before := self._before(package)) is not None:
            return before
        source = package.source
        if isinstance(source, SelectedRepository):
            return self._lock_repository(package, source)
        if not isinstance(source, SelectedFile):
            raise ResolutionError(
                f"{package.name} is a folder, which cannot be locked",
                hint="copy it with rsync() in an earlier step, and install it from there",
            )
        if source.url.startswith("file:") and index is not None and index.startswith(("http:", "https:")):
            raise FetchError(
                f"{index} names a file of this machine for {package.name}: {source.url}",
                hint="klock takes none that an index on the web names: ask for another version, or name another index",
            )
        size, sha256 = self._facts(source)
        source = dataclasses.replace(source, url=self._url_to_lock(source, sha256))
        version = package.version or _version_in(source.name)
        wheel = WheelArtifact(name=source.name, url=source.url, size=size, sha256=sha256)
        if source.is_wheel:
            if version is None:
                raise FetchError(f"{source.name} is not the file name of a wheel")
            return LockedPackage(name=package.name, version=version, index=index, artifact=wheel)
        plain = LockedPackage(name=package.name, version=version or "0", index=index, artifact=wheel)
        fetch_packages([plain], store=self._store, credentials=self.resolver.credentials, offline=self._world.offline)
        blob = self._store.blob_path(f"sha256:{sha256}")
        from klock.packages.build_system import build_system_of_archive
        from klock.packages.builds import Archive

        archive = Archive(path=blob, name=source.name, subdirectory=package.subdirectory)
        system = build_system_of_archive(blob, source.name, package.subdirectory)
        try:
            built = self.build(package.name, archive, system, key=[sha256, package.subdirectory or ""])
        except BuildFailed as error:
            raise self._explained(error, package, index, asked) from None
        self._learn(package, index, sha256, built.wheel)
        artifact = SdistArtifact(
            name=source.name,
            url=source.url,
            size=size,
            sha256=sha256,
            wheel=built.wheel,
            build=tuple(sorted(p.pin for p in built.requires)),
            subdirectory=package.subdirectory,
        )
        version = version if index is not None and version else self._version(built.wheel)
        return LockedPackage(name=package.name, version=version, index=index, artifact=artifact)

    def build(self, name: str, source: Source, system: BuildSystem, *, key: Sequence[str] | None) -> Built:
        """Builds a wheel with build requirements resolved here, or takes one the store has of the same inputs."""
        from klock.packages.builds import Repository

        isolated = name not in self.not_isolated
        requires = self._resolve(name, system.requires) if isolated else ()
        record = self._record(key, requires, isolated=isolated)
        if record is not None and (known := self._known(record, requires)) is not None:
            return known
        with self._room(source, system, isolated=isolated) as room:
            if isinstance(source, Repository):
                room.clone(self._passes)
            room.install(requires)
            if isolated and (extra := room.extra_requirements()):
                requires = self._resolve(name, (*system.requires, *extra))
                room.install(requires)
            started = time.monotonic()
            wheel = room.build()
            if not self.request.keeps_layer:  # another machine may have to build it
                time.sleep(max(0.0, APART - (time.monotonic() - started)))
                if isinstance(source, Repository):
                    room.clone(self._passes)
                from klock.packages.repeating import refuse_other_wheel

                refuse_other_wheel(name, wheel, room.build(varied=True), self._store)
        self._store.keep_blob(f"sha256:{wheel.sha256}")
        for package in requires:
            self.build_packages.setdefault(package.pin, package)
        if record is not None:
            pins = sorted(package.pin for package in requires)
            self._store.write_record("builds", record, {"wheel": dataclasses.asdict(wheel), "requires": pins})
        return Built(wheel=wheel, requires=requires)

    def resolve_for(
        self, name: str, source: Source, system: BuildSystem, *, kind: str, ask_metadata: bool
    ) -> tuple[tuple[str, ...], bytes | None]:
        """The pins that building a local project needs, and its METADATA if the backend is to be asked for it."""
        requires = self._resolve(name, system.requires)
        with self._room(source, system, isolated=True) as room:
            room.install(requires)
            if extra := room.extra_requirements(kind):
                requires = self._resolve(name, (*system.requires, *extra))
                room.install(requires)
            metadata = room.metadata() if ask_metadata else None
        for package in requires:
            self.build_packages.setdefault(package.pin, package)
        return tuple(sorted(package.pin for package in requires)), metadata

    # -- steps of the above

    def _learn(self, package: SelectedPackage, index: str | None, sha256: str, wheel: WheelArtifact) -> None:
        """Notes what a source of an index turned out to require, if uv could learn that by building it alone."""
        world, variables = self._world, self.request.open_environment
        if index is None or package.version is None or self.depth or package.name in self.not_isolated:
            return
        from klock.packages.build_system import tells_what_it_requires
        from klock.packages.learnt import is_learnt, learn

        if (
            not is_learnt(sha256, wheel, world, variables)
            and not tells_what_it_requires(self._store.blob_path(f"sha256:{sha256}"), wheel.name)
            # uv reads what any wheel says, of the version that it would have to build.
            and self.resolver.has_only_source(package.name, package.version, Index(url=index))
        ):
            learn(sha256, wheel, world, variables)

    def _explained(self, error: BuildFailed, package: SelectedPackage, index: str | None, asked: str) -> BuildFailed:
        """The error with the reason why there was anything to build."""
        why = ""
        if index is not None and package.version:
            why = self.resolver.why_no_wheel(package.name, package.version, [Index(url=index)])
        because = f"{package.name} {package.version} {why}, and " if why else ""
        return BuildFailed(f"{asked}{': ' if asked else ''}{because}{error.message}", hint=error.hint)

    @property
    def _passes(self) -> Passes:
        passes = self.resolver.passes
        if passes is None:
            raise FetchError("a repository cannot be cloned offline", hint="run the command once without --offline")
        return passes

    def _lock_repository(self, package: SelectedPackage, source: SelectedRepository) -> LockedPackage:
        from klock.packages.builds import Repository

        repository = Repository(url=source.url, commit=source.commit, subdirectory=source.subdirectory)
        with self._room(repository, BuildSystem(), isolated=False) as room:
            system = room.clone(self._passes)
        key = [source.url, source.commit, source.subdirectory or ""]
        built = self.build(package.name, repository, system, key=key)
        artifact = VcsArtifact(
            type=source.type,
            url=source.url,
            commit=source.commit,
            requested_revision=source.requested_revision,
            subdirectory=source.subdirectory,
            wheel=built.wheel,
            build=tuple(sorted(p.pin for p in built.requires)),
        )
        return LockedPackage(name=package.name, version=self._version(built.wheel), index=None, artifact=artifact)

    def _before(self, package: SelectedPackage) -> LockedPackage | None:
        """Offline, the last lock's package: nothing else can be had."""
        if not self._world.offline:
            return None
        for old in self.resolver.question.previous:
            if old.name == package.name and old.version == package.version:
                return dataclasses.replace(old, replaces=None, dependencies=(), build_only=False)
        return None

    def _facts(self, file: SelectedFile) -> tuple[int, str]:
        """Size and SHA-256, from the index, the last lock, the environment or the file itself, in that order."""
        if file.url.startswith("file:"):
            content = self._world.workspace.read(unquote(urlsplit(file.url).path))
            if content is None:
                raise FetchError(f"{file.name}: there is no file {file.url} in the environment")
            return len(content), self._agreed(file, self._store.add_bytes(content, source=file.url))
        if file.size is not None and file.sha256 is not None:
            return file.size, file.sha256
        for old in self.resolver.question.previous:
            artifact = old.artifact
            if isinstance(artifact, VcsArtifact) or artifact.url != file.url:
                continue
            if file.sha256 in (None, artifact.sha256):
                return artifact.size, artifact.sha256
        url = self._world.mirrors.towards(file.url)
        digest, size = fetch_unhashed(url, self._store, credentials=self.resolver.credentials, name=file.name)
        return size, self._agreed(file, digest)

    def _url_to_lock(self, file: SelectedFile, sha256: str) -> str:
        """Where the file was locked first, or where the mirror that it was found in has it from, if that is known."""
        url = self._world.mirrors.back(file.url)
        if not self._world.mirrors.table:
            return url
        locked = [p.artifact for p in self.resolver.question.previous if not isinstance(p.artifact, VcsArtifact)]
        return next((a.url for a in locked if (a.sha256, a.name) == (sha256, file.name)), url)

    def _agreed(self, file: SelectedFile, digest: Digest) -> str:
        found = digest.removeprefix("sha256:")
        expected = [f"sha256:{file.sha256}"] if file.sha256 is not None else file.hashes
        for said, is_so in hashes_like(expected, self._store.blob_path(digest)).items():
            if said.lower() != is_so.lower():
                raise HashMismatch(f"{file.name}: its index says {said}, but {file.url} is {is_so}")
        return found

    def _resolve(self, name: str, requires: Sequence[str]) -> tuple[LockedPackage, ...]:
        if not requires:
            return ()
        if self.depth >= _DEEPEST:
            raise ResolutionError(f"{name}: its build requirements need each other to be built from source")
        origin = f"build requirement of {name}"
        wanted = tuple(ScopedRequirement(text=text, origin=origin) for text in dict.fromkeys(requires))
        resolver = dataclasses.replace(self.resolver, preferences=self._build_preferences(name), learnt=())
        answer = resolver.ask([self.request.for_builds(wanted)], use_installed=False)
        inner = dataclasses.replace(self, resolver=resolver, depth=self.depth + 1)
        packages = tuple(inner.lock(package, answer.index[package.name]) for package in answer.packages)
        fetch_packages(packages, store=self._store, credentials=resolver.credentials, offline=self._world.offline)
        for package in packages:
            check_names(package, metadata_of(wheel_of(package), self._store))
        return tuple(dataclasses.replace(package, build_only=True) for package in packages)

    def _build_preferences(self, name: str) -> dict[str, str]:
        """The versions the last lock built it with, unless everything is to be new."""
        if self.resolver.question.upgrade:
            return {}
        for old in self.resolver.question.previous:
            if old.name == name and isinstance(old.artifact, SdistArtifact | VcsArtifact):
                return dict(pin.split("==", 1) for pin in old.artifact.build)
        return {old.name: old.version for old in self.resolver.question.previous if old.build_only}

    def _room(self, source: Source, system: BuildSystem, *, isolated: bool) -> AbstractContextManager[BuildRoom]:
        from klock.packages.builds import build_room

        return build_room(
            workspace=self._world.workspace,
            store=self._store,
            python=self._world.python.interpreter.path,
            variables=self.request.open_environment,
            source=source,
            system=system,
            isolated=isolated,
        )

    def _record(self, key: Sequence[str] | None, requires: Sequence[LockedPackage], *, isolated: bool) -> Digest | None:
        """What a build depends on: also on compilers and libraries below. One against the environment is never
        remembered."""
        if key is None or not isolated or not self._world.environment:
            return None
        interpreter = self._world.python.interpreter
        pins = sorted(package.pin for package in requires)
        variables = sorted(self.request.open_environment.items())
        python = [interpreter.path, interpreter.sha256, interpreter.libc]
        return digest_of_json([2, list(key), *python, pins, list(self._world.environment), variables])

    def _known(self, record: Digest, requires: Sequence[LockedPackage]) -> Built | None:
        """The wheel an equal build made, unless its backend wanted more than `requires` then."""
        found = self._store.read_record("builds", record)
        by_pin = {package.pin: package for package in requires}
        if found is None:
            return None
        try:
            wheel = WheelArtifact(**found["wheel"])
            if self._store.find_blob(f"sha256:{wheel.sha256}") is None:
                return None
            known = tuple(by_pin[pin] for pin in found["requires"])
        except (KeyError, TypeError):
            return None
        for package in known:
            self.build_packages.setdefault(package.pin, package)
        return Built(wheel=wheel, requires=known)

    def _version(self, wheel: WheelArtifact) -> str:
        path: Path = self._store.blob_path(f"sha256:{wheel.sha256}")
        return read_wheel_metadata(path, wheel.name).version


def _version_in(file_name: str) -> str | None:
    try:
        return str(parse_wheel_filename(file_name)[1])
    except InvalidWheelFilename:
        return None
