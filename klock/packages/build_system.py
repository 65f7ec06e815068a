"""What a project says about being built and, where it says so statically, about itself (PEP 518, PEP 621)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from klock.documents import read_toml
from klock.errors import FetchError, ImageError
from klock.packages.archives import BROKEN, LARGEST_TEXT, opened_zip, read_from_tar, read_member
from klock.values import dataclass

__all__ = [
    "BuildSystem",
    "StaticMetadata",
    "build_system_of_archive",
    "read_build_system",
    "read_static_metadata",
    "tells_what_it_requires",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSystem:
    """`[build-system]`: requirements, backend (`module:object`) and in-tree folders of the backend."""

    requires: tuple[str, ...] = ("setuptools>=40.8.0",)
    backend: str = "setuptools.build_meta:__legacy__"
    backend_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticMetadata:
    """`[project]` where nothing that matters here is dynamic. `version` may be."""

    name: str
    version: str | None
    dependencies: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]


_LEGACY: Final = BuildSystem()
_METADATA_VERSION: Final = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9])")


def read_build_system(pyproject: bytes | None, *, where: str) -> BuildSystem:
    """The build system of a project with this pyproject.toml (None: it has none). Raises ImageError naming `where`."""
    table = _toml(pyproject, where).get("build-system") if pyproject is not None else None
    if table is None:
        return _LEGACY
    if not isinstance(table, dict):
        raise ImageError(f"{where}: [build-system] does not follow PEP 518")
    requires, backend, path = table.get("requires"), table.get("build-backend"), table.get("backend-path", [])
    if (
        not isinstance(requires, list)
        or not _is_strings(requires)
        or not isinstance(backend, str | None)
        or not _is_strings(path)
    ):
        raise ImageError(f"{where}: [build-system] does not follow PEP 518")
    return BuildSystem(requires=tuple(requires or ()), backend=backend or _LEGACY.backend, backend_path=tuple(path))


def read_static_metadata(pyproject: bytes | None, *, where: str) -> StaticMetadata | None:
    """Name and dependencies without running anything, or None when the project must be asked."""
    project = _toml(pyproject, where).get("project") if pyproject is not None else None
    if not isinstance(project, dict) or not isinstance(project.get("name"), str):
        return None
    dynamic = project.get("dynamic", [])
    if not _is_strings(dynamic):
        raise ImageError(f"{where}: [project] does not follow PEP 621")
    if "dependencies" in dynamic or "optional-dependencies" in dynamic:
        return None
    dependencies, extras = project.get("dependencies", []), project.get("optional-dependencies", {})
    if not _is_strings(dependencies) or not isinstance(extras, dict) or not all(map(_is_strings, extras.values())):
        raise ImageError(f"{where}: [project] does not follow PEP 621")
    version = project.get("version")
    return StaticMetadata(
        name=canonicalize_name(project["name"]),
        version=version if isinstance(version, str) else None,
        dependencies=tuple(dependencies),
        extras={canonicalize_name(extra): tuple(requires) for extra, requires in extras.items()},
    )


def build_system_of_archive(path: Path, file_name: str, subdirectory: str | None = None) -> BuildSystem:
    """The build system of a source distribution, of which only pyproject.toml is read. Raises FetchError."""
    wanted = f"{subdirectory.strip('/')}/pyproject.toml" if subdirectory else "pyproject.toml"
    return read_build_system(_read_from(path, file_name, wanted), where=file_name)


def _read_from(path: Path, file_name: str, wanted: str) -> bytes | None:
    """The file at `wanted`, below the one folder of a source distribution. Raises FetchError."""
    try:
        if not zipfile.is_zipfile(path):
            return read_from_tar(path, wanted)
        with opened_zip(path, file_name, what="a source distribution") as archive:
            names = [n for n in archive.namelist() if n.partition("/")[2] == wanted]
            return read_member(archive, names[0], largest=LARGEST_TEXT) if names else None
    except BROKEN as error:
        raise FetchError(f"{file_name} is not a source distribution: {error}") from error


def tells_what_it_requires(path: Path, file_name: str) -> bool:
    """Whether a source distribution says without a build what it requires: in its PKG-INFO, since that has to be true
    (PEP 643), or in its pyproject.toml (PEP 621). What cannot be read says nothing: its build may do well all the
    same."""
    from email.parser import BytesParser

    try:
        pyproject, about = (_read_from(path, file_name, name) for name in ("pyproject.toml", "PKG-INFO"))
        if read_static_metadata(pyproject, where=file_name) is not None:
            return True
    except (FetchError, ImageError):
        return False
    headers = BytesParser().parsebytes(about or b"", headersonly=True)
    version = _METADATA_VERSION.match(str(headers.get("Metadata-Version", "")).strip())
    dynamic = {str(value).strip().lower() for value in headers.get_all("Dynamic") or ()}
    is_said = version is not None and (int(version[1]), int(version[2])) >= (2, 2)
    return is_said and not dynamic & {"requires-dist", "requires-python", "provides-extra"}


def _toml(content: bytes | None, where: str) -> dict[str, Any]:
    try:
        return read_toml((content or b"").decode("utf-8"))
    except ValueError as error:
        raise ImageError(f"{where}: pyproject.toml cannot be read: {error}") from error


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
