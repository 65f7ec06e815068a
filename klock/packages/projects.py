"""Local projects of an image: a folder that an earlier step copies into the environment, installed from there.

At lock time their dependencies join the resolution, and what builds them is locked; the folder is read where it is on
the host. At replay they are built in the environment, offline, and installed without dependencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from klock.errors import ImageError, StepFailed
from klock.image.markers import only_where
from klock.image.project_files import settings_of_project
from klock.image.pyproject import from_sources
from klock.image.uv_settings import UvSettings
from klock.lockfile.model import Interpreter, LocalProject, LockedPackage, WheelArtifact
from klock.packages.artifacts import ArtifactLocker
from klock.packages.build_system import BuildSystem, StaticMetadata, read_build_system, read_static_metadata
from klock.packages.request import LocalProjectSource, ScopedRequirement
from klock.packages.wheels import WheelMetadata, metadata_of, parse_metadata
from klock.store import Store
from klock.values import dataclass
from klock.workshop.protocol import Workspace

__all__ = ["ReadProject", "build_projects", "lock_project", "read_project"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProject:
    """What a project says of itself, and `requires`: its dependencies and those of the extras asked for, for the
    resolution, from uv's sources. `folders` are those that uv has a folder for. `build` are the pins that its build
    needs, where it was asked for them already."""

    source: LocalProjectSource
    system: BuildSystem
    metadata: StaticMetadata
    requires: tuple[ScopedRequirement, ...]
    folders: tuple[str, ...] = ()
    build: tuple[str, ...] | None

    @property
    def as_wheel(self) -> WheelMetadata:
        """What the wheel says that is made of it; its version may be unknown, and is empty then."""
        extras = self.metadata.extras
        of_extras = (_for_extra(text, extra) for extra, texts in extras.items() for text in texts)
        return WheelMetadata(
            name=self.metadata.name,
            version=self.metadata.version or "",
            requires=(*self.metadata.dependencies, *of_extras),
            extras=tuple(extras),
        )


def read_project(source: LocalProjectSource, locker: ArtifactLocker) -> ReadProject:
    """Reads static metadata where the project has it, and asks its backend in the environment where it has not.

    Raises ImageError when the folder is not a project, StepFailed when its backend fails.
    """
    content = _pyproject(source)
    where = f"{source.origin}: {source.path}"
    metadata = read_static_metadata(content, where=where)
    system = read_build_system(content, where=where)
    build = None
    if metadata is None:
        build, answer = _asked(source, system, locker, ask_metadata=True)
        metadata = _from_metadata(answer or b"", source)
    _check_extras(metadata, source)
    plain: list[tuple[str, str | None]] = [(text, None) for text in metadata.dependencies]
    of_extras = [(text, extra) for extra in source.extras for text in metadata.extras.get(extra, ())]
    found, folders = from_sources([*plain, *of_extras], _sources(source, content), f"{source.origin}: {metadata.name}")
    return ReadProject(
        source=source,
        system=system,
        metadata=metadata,
        requires=tuple(map(ScopedRequirement.of, found)),
        folders=tuple(folders),
        build=build,
    )


def _sources(source: LocalProjectSource, content: bytes | None) -> UvSettings:
    """Where uv takes what the project requires from. Other settings of the project are not the image's."""
    if content is None:
        return UvSettings()
    settings = settings_of_project(source.source / "pyproject.toml", content, f"{source.path}/pyproject.toml")
    return UvSettings(sources=settings.sources, indexes=settings.indexes)


def _for_extra(text: str, extra: str) -> str:
    return str(only_where(Requirement(text), Marker(f"extra == '{extra}'")))


def lock_project(read: ReadProject, locker: ArtifactLocker) -> LocalProject:
    """The project as locked, with what builds it in the environment of its own step. Raises StepFailed."""
    source, build = read.source, read.build
    if build is None:
        build, _ = _asked(source, read.system, locker, ask_metadata=False)
    return LocalProject(
        path=source.path,
        name=read.metadata.name,
        version=read.metadata.version,
        editable=source.editable,
        extras=source.extras,
        build=build,
    )


def _asked(
    source: LocalProjectSource, system: BuildSystem, locker: ArtifactLocker, *, ask_metadata: bool
) -> tuple[tuple[str, ...], bytes | None]:
    from klock.packages.builds import Folder

    folder = Folder(path=source.path, host=source.source)
    kind = "editable" if source.editable else "wheel"
    return locker.resolve_for(source.path, folder, system, kind=kind, ask_metadata=ask_metadata)


def build_projects(
    projects: Sequence[LocalProject],
    packages: Mapping[str, LockedPackage],
    *,
    interpreter: Interpreter,
    workspace: Workspace,
    store: Store,
    variables: Mapping[str, str],
) -> list[tuple[str, WheelArtifact]]:
    """Builds each project at its path in the environment; the wheels, with the names of their distributions.

    Raises StepFailed.
    """
    if not projects:
        return []
    from klock.packages.builds import Folder, build_room

    wheels = []
    for project in projects:
        content = workspace.read(f"{project.path}/pyproject.toml")
        if content is None and workspace.read(f"{project.path}/setup.py") is None:
            raise StepFailed(f"{project.path} is not a Python project: it has neither pyproject.toml nor setup.py")
        system: BuildSystem = read_build_system(content, where=project.path)
        room = build_room(
            workspace=workspace,
            store=store,
            python=interpreter.path,
            variables=variables,
            source=Folder(path=project.path, copy=not project.editable),
            system=system,
        )
        with room as build:
            build.install([packages[pin] for pin in project.build])
            wheel = build.build("editable" if project.editable else "wheel")
        metadata = metadata_of(wheel, store)
        if metadata.name != project.name:
            raise StepFailed(
                f"{project.path} is {metadata.name}, but {project.name} is locked", hint="run `klock lock`"
            )
        wheels.append((metadata.name, wheel))
    return wheels


def _check_extras(metadata: StaticMetadata, source: LocalProjectSource) -> None:
    unknown = [extra for extra in source.extras if extra not in metadata.extras]
    if unknown:
        raise ImageError(
            f"{source.origin}: {source.path}: {metadata.name} has no extra {unknown[0]!r}",
            hint=f"it has: {', '.join(sorted(metadata.extras)) or 'none'}",
        )


def _pyproject(source: LocalProjectSource) -> bytes | None:
    folder: Path = source.source
    for name in ("pyproject.toml", "setup.py", "setup.cfg"):
        if (folder / name).is_file():
            pyproject = folder / "pyproject.toml"
            return pyproject.read_bytes() if pyproject.is_file() else None
    raise ImageError(
        f"{source.origin}: {source.path} is not a Python project: {folder.name} has neither pyproject.toml "
        "nor setup.py",
        hint="name the folder that has it",
    )


def _from_metadata(content: bytes, source: LocalProjectSource) -> StaticMetadata:
    metadata = parse_metadata(content, source.path)
    extras: dict[str, tuple[str, ...]] = {canonicalize_name(extra): () for extra in metadata.extras}
    plain = []
    for text in metadata.requires:
        requirement = Requirement(text)
        marker = requirement.marker
        names = [e for e in extras if marker and marker.evaluate({"extra": e}) and not marker.evaluate({"extra": ""})]
        if names and "extra" in str(marker):
            requirement.marker = None
            for name in names:
                extras[name] = (*extras[name], str(requirement))
        else:
            plain.append(text)
    return StaticMetadata(name=metadata.name, version=metadata.version, dependencies=tuple(plain), extras=extras)
