"""Reads what other tools wrote down of a project: pylock.toml (PEP 751), uv.lock, and pyproject.toml with its groups.

Of a lock every version and hash is kept. uv.lock is read by uv itself (`uv export`), which knows what its markers,
forks and workspaces mean; it reads the lock and the pyproject.toml of each member, and runs nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from klock.documents import read_toml
from klock.errors import RequirementError
from klock.image.markers import negated
from klock.image.pip_options import PipOptions
from klock.image.pyproject import constraints_of_project, requirements_of_project, steering_of_project
from klock.image.requirements import (
    PackageRequirement,
    ParsedRequirement,
    PathRequirement,
    ProjectParts,
    Steering,
    UrlRequirement,
)
from klock.image.uv_lock_age import not_in_lock
from klock.image.uv_settings import UvSettings, find_uv_settings, is_local
from klock.secrets.masking import mask
from klock.secrets.userinfo import PrivateUrl
from klock.values import dataclass
from klock.words import first_of

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel, Pylock
    from packaging.specifiers import SpecifierSet

__all__ = ["ProjectFile", "is_project_file", "read_project_file", "settings_of_project"]

_PYLOCK: Final = re.compile(r"pylock(\.[^./]+)?\.toml")
_PYPI: Final = "https://pypi.org/simple"
_FILES_OF_PYPI: Final = "files.pythonhosted.org"
_OF_LOCKS: Final = frozenset({"extras", "dependency_groups"})
_CHOICE: Final = re.compile(r"""(?P<name>"[^"]*"|'[^']*') (?P<operator>in|not in) (?P<of>extras|dependency_groups)""")
_ALWAYS: Final = 'python_version >= "0"'
_NEVER: Final = 'python_version < "0"'


def is_project_file(path: str) -> bool:
    """Whether a file after `-r` is one of those, by its name."""
    name = path.rpartition("/")[2]
    return name in ("pyproject.toml", "uv.lock") or _PYLOCK.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """What a file asks for. `left_out` are its packages that are folders and files of the machine it was made on;
    `notes` are what the user should know."""

    requirements: tuple[ParsedRequirement, ...]
    constraints: tuple[ParsedRequirement, ...] = ()
    steering: Steering | None = None
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def settings_of_project(path: Path, content: bytes, where: str) -> UvSettings:
    """uv's settings for the project whose pyproject.toml is at `path`, with this content. `where` names it in messages.

    Raises RequirementError.
    """
    return find_uv_settings(path, _toml(content, where), where)


def read_project_file(
    path: Path, content: bytes, parts: ProjectParts, where: str, settings: UvSettings | None
) -> ProjectFile:
    """`where` names the file in messages; `settings` are those for its project, which a pylock.toml is without.

    Raises RequirementError.
    """
    if settings is None:
        return ProjectFile(requirements=tuple(_requirements_of_pylock(_toml(content, where), where, parts)))
    if path.name == "uv.lock":
        document = _exported(path, parts, where)
        packages = document.get("packages", [])
        local = [package["name"] for package in packages if _is_local(package)]
        document["packages"] = [package for package in packages if not _is_local(package)]
        options = PipOptions(no_binary=settings.packages("no-binary"), only_binary=settings.packages("no-build"))
        requirements = _requirements_of_pylock(document, where, ProjectParts())
        project = _toml(path.with_name("pyproject.toml").read_bytes(), where).get("project", {})
        older = not_in_lock(project, _toml(content, where)) if isinstance(project, dict) else []
        return ProjectFile(
            requirements=tuple(replace(each, options=each.options.over(options)) for each in requirements),
            left_out=tuple(local),
            notes=(f"{where} is older than its pyproject.toml, which requires {first_of(older)}: run `uv lock`",)
            if older
            else (),
        )
    document = _toml(content, where)
    requirements = requirements_of_project(document, parts, where, settings)
    return ProjectFile(
        requirements=tuple(_only_in(settings, requirements)),
        constraints=tuple(constraints_of_project(settings)),
        steering=steering_of_project(settings, where),
        notes=settings.notes,
    )


def _only_in(settings: UvSettings, requirements: Iterable[ParsedRequirement]) -> Iterator[ParsedRequirement]:
    """The requirements, for the `environments` alone that the project is for, if it names any."""
    environments = settings.texts("environments")
    if not environments:
        yield from requirements
        return
    place = settings.place("environments")
    try:
        only_for = Marker(" or ".join(f"({each})" for each in environments))
    except InvalidMarker as error:
        raise RequirementError(f"{place} has an invalid marker: {str(error).splitlines()[0]}") from error
    for each in requirements:
        yield each if isinstance(each, PathRequirement) else replace(each, only_for=only_for)


def _is_local(package: Mapping[str, Any]) -> bool:
    return "directory" in package or "path" in package.get("archive", {})


def _toml(content: bytes, where: str) -> dict[str, Any]:
    try:
        return read_toml(content.decode("utf-8"))
    except ValueError as error:
        raise RequirementError(f"{where} cannot be read: {error}") from error


def _exported(path: Path, parts: ProjectParts, where: str) -> dict[str, Any]:
    from klock.uv_program import uv_program

    arguments = ["export", "--frozen", "--offline", "--no-config", "--no-cache", "--no-header", "--no-emit-workspace"]
    arguments += ["--format", "pylock.toml", "--python", sys.executable, "--directory", os.fspath(path.parent)]
    arguments += [word for group in parts.groups for word in ("--group", group)]
    arguments += [word for extra in parts.extras for word in ("--extra", extra)]
    arguments += ["--package", parts.package] if parts.package else []
    for flag, wanted in (
        ("--all-extras", parts.all_extras),
        ("--all-groups", parts.all_groups),
        ("--no-dev", parts.no_dev),
        ("--no-default-groups", parts.no_default_groups),
    ):
        arguments += [flag] if wanted else []
    with tempfile.TemporaryDirectory(prefix="klock-uv-") as home:
        environment = {"HOME": home, "NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
        done = subprocess.run([uv_program(), *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = mask(" ".join(done.stderr.removeprefix("error: ").split()))
        raise RequirementError(f"{where}: uv cannot read it: {reason}", hint="run `uv lock` in its folder")
    return _toml(done.stdout.encode(), where)


def _requirements_of_pylock(
    document: Mapping[str, Any], where: str, parts: ProjectParts
) -> Iterator[ParsedRequirement]:
    from packaging.pylock import Pylock, PylockValidationError

    try:
        lock = Pylock.from_dict(document)
    except (PylockValidationError, ValueError) as error:
        raise RequirementError(f"{where} is not a pylock.toml (PEP 751): {error}") from error
    of_lock = _of_pythons(lock.requires_python)
    if lock.environments:
        of_lock.append(" or ".join(f"({each})" for each in lock.environments))
    chosen = _chosen(lock, parts, where)
    for number, package in enumerate(lock.packages):
        marker = _settled(package.marker, chosen)
        of_package = [each for each in _of_pythons(package.requires_python) if each not in of_lock]
        # What a package says counts where it is asked for; what the lock says, everywhere.
        otherwise = f" or ({negated(marker)})" if marker is not None else ""
        conditions = [*of_lock, *(f"({each}){otherwise}" for each in of_package)]
        only_for = Marker(" and ".join(f"({each})" for each in conditions)) if conditions else None
        yield replace(_requirement_of(package, marker, f"{where}: packages[{number}]"), only_for=only_for)


def _of_pythons(allowed: SpecifierSet | None) -> list[str]:
    """Requires-Python as markers."""
    return [f"python_full_version {each.operator} '{each.version}'" for each in allowed or ()]


def _chosen(lock: Pylock, parts: ProjectParts, where: str) -> dict[str, frozenset[str]]:
    """The extras and groups that are wanted of a lock: the default groups, and what `parts` names besides."""
    extras, groups = (frozenset(map(canonicalize_name, named or ())) for named in (lock.extras, lock.dependency_groups))
    if parts.package or (parts != ProjectParts() and not extras and not groups):
        raise RequirementError(
            f"{where} has no groups and extras to choose from",
            hint="export it with them: uv export --format pylock.toml --group NAME --extra NAME",
        )
    without = parts.groups_only or parts.no_default_groups
    default = frozenset(map(canonicalize_name, () if without else lock.default_groups or ()))
    return {
        "extras": extras if parts.all_extras else _named("extra", parts.extras, extras, where),
        "dependency_groups": (groups if parts.all_groups else _named("group", parts.groups, groups, where))
        | (default - {"dev"} if parts.no_dev else default),
    }


def _named(word: str, names: Iterable[str], there: frozenset[str], where: str) -> frozenset[str]:
    wanted = frozenset(map(canonicalize_name, names))
    if unknown := sorted(wanted - there):
        raise RequirementError(f"{where}: there is no {word} {unknown[0]!r}, only {first_of(sorted(there)) or 'none'}")
    return wanted


def _settled(marker: Marker | None, chosen: Mapping[str, frozenset[str]]) -> Marker | None:
    """The marker without its questions about extras and groups of the lock, which are answered (PEP 751)."""
    if marker is None or not _CHOICE.search(str(marker)):
        return marker

    def answer(match: re.Match[str]) -> str:
        is_chosen = canonicalize_name(match["name"][1:-1]) in chosen[match["of"]]
        return _ALWAYS if is_chosen == (match["operator"] == "in") else _NEVER

    return Marker(_CHOICE.sub(answer, str(marker)))


def _requirement_of(package: Package, marker: Marker | None, where: str) -> PackageRequirement | UrlRequirement:
    name = package.name
    if marker is not None and any(word in str(marker) for word in _OF_LOCKS):
        raise RequirementError(
            f"{where}: {name} has a marker for extras or groups of the lock itself: {marker}",
            hint="export a lock for what you want to install",
        )
    if package.vcs is not None and package.vcs.url:
        at = f"#subdirectory={package.vcs.subdirectory}" if package.vcs.subdirectory else ""
        url = f"{package.vcs.type}+{package.vcs.url}@{package.vcs.commit_id}{at}"
        return UrlRequirement(url=PrivateUrl.parse(url), name=name, marker=marker, where=where)
    if package.archive is not None and package.archive.url:
        hashes = _hashes_of([package.archive])
        url = package.archive.url + (f"#subdirectory={s}" if (s := package.archive.subdirectory) else "")
        return UrlRequirement(url=PrivateUrl.parse(url), name=name, marker=marker, hashes=hashes, where=where)
    given: list[PackageWheel | PackageSdist] = [*(package.wheels or ())]
    given += [package.sdist] if package.sdist else []
    if package.version is None or not given or not all(file.url and not is_local(file.url) for file in given):
        raise RequirementError(
            f"{where}: {name} is a folder or a file on the machine where it was locked",
            hint="leave it out of the lock (uv export --no-emit-local); copy it with rsync() and install it from there",
        )
    hashes = _hashes_of(given)
    requirement = Requirement(f"{name}=={package.version}")
    requirement.marker = marker
    urls = tuple(PrivateUrl.parse(file.url or "") for file in given)
    is_of_pypi = package.index is None and all(urlsplit(url.url).hostname == _FILES_OF_PYPI for url in urls)
    # Of an index's files klock knows the locked ones by their SHA-256.
    by_index = (package.index is not None or is_of_pypi) and all("sha256" in file.hashes for file in given)
    return PackageRequirement(
        requirement=requirement,
        options=_options_for(package.index),
        hashes=hashes,
        is_locked=True,
        files=() if by_index else urls,
        where=where,
    )


def _hashes_of(files: Iterable[PackageArchive | PackageSdist | PackageWheel]) -> tuple[str, ...]:
    found = {f"{algorithm}:{digest.lower()}" for file in files for algorithm, digest in file.hashes.items()}
    return tuple(sorted(found))


def _options_for(index: str | None) -> PipOptions:
    """A lock does not say which of its indexes are pages of links. We take URLs of HTML files for those."""
    if index is None or index == _PYPI:
        return PipOptions()
    url = PrivateUrl.parse(index)
    is_page = urlsplit(index).path.endswith((".html", ".htm"))
    return PipOptions(find_links=(url,)) if is_page else PipOptions(index_url=url)
