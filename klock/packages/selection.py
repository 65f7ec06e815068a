"""From uv's answer, a pylock.toml (PEP 751) with several files for a project, exactly one artifact for each.

The choice is `packaging`'s, with the markers and wheel tags of the environment's own Python.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from klock.errors import ResolutionError
from klock.packages.credentials import without_credentials
from klock.packages.no_wheel import why_no_wheel
from klock.secrets.finding import literals_in
from klock.values import dataclass

if TYPE_CHECKING:
    from packaging.markers import Environment

__all__ = [
    "SelectedFile",
    "SelectedFolder",
    "SelectedPackage",
    "SelectedRepository",
    "file_name_of",
    "select_artifacts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedFile:
    """A wheel or source archive. `size` (bytes) and `sha256` (hex) are None where the index does not say; `hashes` are
    what it says in other algorithms, as `sha512:...`."""

    name: str
    url: str
    size: int | None
    sha256: str | None
    hashes: tuple[str, ...] = ()

    @property
    def is_wheel(self) -> bool:
        return self.name.endswith(".whl")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedRepository:
    """A commit of a repository."""

    type: str
    url: str
    commit: str
    requested_revision: str | None
    subdirectory: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedFolder:
    """A local project."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedPackage:
    """One project of the answer. `direct`: it was asked for by URL, no index is its source. `has_others`: the version
    has more files than this one."""

    name: str
    version: str | None
    source: SelectedFile | SelectedRepository | SelectedFolder
    direct: bool = False
    subdirectory: str | None = None
    has_others: bool = field(default=False, compare=False)


def select_artifacts(
    pylock: str,
    *,
    markers: Mapping[str, str],
    tags: Sequence[str],
    from_source: Collection[str] = (),
    hashes: Mapping[str, Collection[str]] | None = None,
    without: Mapping[str, Collection[str]] | None = None,
) -> tuple[SelectedPackage, ...]:
    """One artifact for each project of `pylock`. Those in `from_source` are not taken as wheels; a project in `hashes`
    may only have an artifact with one of its hashes (`sha256:...`), and none of the files that `without` names for it.

    Raises ResolutionError when a project has no file that this Python can use.
    """
    from packaging.pylock import PackageArchive, PackageDirectory, PackageVcs, Pylock, PylockSelectError
    from packaging.tags import Tag

    document = _only_hashed(_without_files(tomllib.loads(pylock), without or {}), hashes or {})
    for each in document.get("packages", ()):
        # Of wheels with equal tags the first is taken: it is the one that was built last.
        each.get("wheels", []).sort(key=lambda wheel: _build_of(file_name_of(wheel.get("url", ""))), reverse=True)
    lock = Pylock.from_dict(document)
    wanted = [Tag(*tag.split("-", 2)) for tag in tags]
    chosen = []
    try:
        selected = list(
            lock.select(
                environment=cast("Environment", dict(markers)),  # the probe gives every marker that PEP 508 names
                tags=wanted,
                prefer_sdist_predicate=lambda name: ":all:" in from_source or name in from_source,
            )
        )
    except PylockSelectError as error:
        raise ResolutionError(f"no file of a project fits the environment's Python: {error}") from error
    for package, artifact in selected:
        version = str(package.version) if package.version else None
        if isinstance(artifact, PackageVcs):
            repository = SelectedRepository(
                type=artifact.type,
                url=_lockable(artifact.url or "", package.name),
                commit=artifact.commit_id,
                requested_revision=artifact.requested_revision,
                subdirectory=artifact.subdirectory,
            )
            chosen.append(SelectedPackage(name=package.name, version=version, source=repository, direct=True))
        elif isinstance(artifact, PackageDirectory):
            folder = SelectedFolder(path=artifact.path)
            chosen.append(SelectedPackage(name=package.name, version=version, source=folder, direct=True))
        else:
            url = artifact.url or ""
            file = SelectedFile(
                name=getattr(artifact, "filename", "") or file_name_of(url),
                url=_lockable(url, package.name),
                size=artifact.size,
                sha256=artifact.hashes.get("sha256"),
                hashes=tuple(sorted(f"{name}:{h}" for name, h in artifact.hashes.items() if name != "sha256")),
            )
            direct = isinstance(artifact, PackageArchive)
            if direct:
                _refuse_what_does_not_fit(package.name, file, tags)
            subdirectory = artifact.subdirectory if isinstance(artifact, PackageArchive) else None
            others = len(package.wheels or ()) + (package.sdist is not None) > 1
            package_chosen = SelectedPackage(name=package.name, version=version, source=file, direct=direct)
            chosen.append(replace(package_chosen, subdirectory=subdirectory, has_others=others))
    return tuple(sorted(chosen, key=lambda package: package.name))


def _without_files(document: dict[str, Any], names: Mapping[str, Collection[str]]) -> dict[str, Any]:
    for package in document.get("packages", ()):
        unwanted = names.get(package["name"], ())
        if unwanted:
            package["wheels"] = [w for w in package.get("wheels", ()) if file_name_of(w.get("url", "")) not in unwanted]
            if file_name_of(package.get("sdist", {}).get("url", "")) in unwanted:
                del package["sdist"]
    return document


def _refuse_what_does_not_fit(project: str, file: SelectedFile, tags: Sequence[str]) -> None:
    """A wheel that is asked for by its URL is for some Pythons and systems, too: uv does not look."""
    try:
        _, version, _, _ = parse_wheel_filename(file.name)
    except (InvalidWheelFilename, InvalidVersion):
        return  # a source, or a name that is refused elsewhere
    if why := why_no_wheel(str(version), [file.name], tags):
        raise ResolutionError(
            f"{project}: {file.name} does not fit the environment's Python: it {why}",
            hint="name the wheel of this Python and system, with a marker for each if there are several targets",
        )


def _build_of(file_name: str) -> tuple[int, str]:
    """The build number in the name of a wheel, which decides between wheels that are equal otherwise."""
    try:
        build = parse_wheel_filename(file_name)[2]
    except (InvalidWheelFilename, InvalidVersion):
        return (-1, "")
    return build or (-1, "")


def _only_hashed(document: dict[str, Any], hashes: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """Takes out the files that none of the required hashes is of."""
    for package in document.get("packages", ()):
        if package["name"] not in hashes:
            continue
        allowed = {each.removeprefix("sha256:") for each in hashes[package["name"]]}
        given = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        kept = [file for file in given if file.get("hashes", {}).get("sha256") in allowed]
        if not kept and given:
            raise ResolutionError(
                f"{package['name']} {package.get('version')}: none of its files has a hash that --hash allows",
                hint="remove --hash or name the version the hashes are of",
            )
        package["wheels"] = [file for file in package.get("wheels", ()) if file in kept]
        if package.get("sdist") not in kept:
            package.pop("sdist", None)
    return document


def _lockable(url: str, project: str) -> str:
    """The URL as the lockfile holds it. Raises ResolutionError for one that works only with a credential in it."""
    bare = without_credentials(url).partition("#")[0]
    for literal in literals_in(bare) if "?" in bare else ():
        raise ResolutionError(
            f"{project}: the URL to fetch it from has a credential in it, {literal.where}, and the lockfile would hold "
            "that",
            hint="take it from an index that wants user and password instead",
        )
    return bare


def file_name_of(url: str) -> str:
    """The name of the file at a URL."""
    return unquote(urlsplit(url).path.rpartition("/")[2])
