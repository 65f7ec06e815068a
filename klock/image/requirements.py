"""What `pip_install` asks for as values: requirements (PEP 508), paths, URLs, files to read, with their options.

`klock.image.requirement_lines` makes them of text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from klock.errors import RequirementError
from klock.image.pip_options import PipOptions
from klock.secrets.userinfo import PrivateUrl
from klock.values import dataclass

__all__ = [
    "FileReference",
    "PackageRequirement",
    "ParsedLine",
    "ParsedRequirement",
    "PathRequirement",
    "ProjectParts",
    "Steering",
    "UrlRequirement",
    "fragment_of",
    "hashes_in_fragment",
    "lacks_hash",
]

_NONE: Final = PipOptions()
_HEX_DIGITS: Final = {"sha256": 64, "sha384": 96, "sha512": 128, "sha224": 56, "sha1": 40, "md5": 32}
"""How long the hashes are that pip checks in a URL's fragment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRequirement:
    """A distribution from an index: `ray[data]==2.50.1; python_version < "3.13"`. Its `url` is always None.

    `is_locked`: it is from a lock, whose versions hold whatever packages require of each other. `only_for` is the
    marker of the environments that the lock is for. `lacks_hash`: it may only be asked for where its marker is false.
    `files` are those of a lock that names no index: one of them is meant, and not one of an index.
    """

    requirement: Requirement
    options: PipOptions = _NONE
    hashes: tuple[str, ...] = ()
    is_locked: bool = False
    lacks_hash: bool = False
    only_for: Marker | None = None
    files: tuple[PrivateUrl, ...] = ()
    where: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """Normalised (PEP 503)."""
        return canonicalize_name(self.requirement.name)

    @property
    def extras(self) -> tuple[str, ...]:
        return tuple(sorted(self.requirement.extras))

    @property
    def marker(self) -> Marker | None:
        return self.requirement.marker

    def __str__(self) -> str:
        return str(self.requirement)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRequirement:
    """A project folder or an archive at a path inside the environment: `/my_lib[opora]`, `-e /my_lib`, `./x`.

    `path` is absolute or relative to the working directory; `name` is known only where it was written.
    `fragment_hashes` are those of a file: URL.
    """

    path: str
    name: str | None = None
    extras: tuple[str, ...] = ()
    editable: bool = False
    marker: Marker | None = None
    options: PipOptions = _NONE
    hashes: tuple[str, ...] = ()
    fragment_hashes: tuple[str, ...] = ()
    where: str = field(default="", compare=False)

    def __str__(self) -> str:
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{'-e ' if self.editable else ''}{self.path}{extras}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlRequirement:
    """An archive or a repository at a URL. `url` begins with the version control's name if it is one (`git+https`),
    and keeps `@REVISION` and the fragment; `name` is known where it was written or is in the file's name.
    `fragment_hashes` are those of the fragment, `only_for` and `lacks_hash` are as in `PackageRequirement`."""

    url: PrivateUrl
    name: str | None = None
    extras: tuple[str, ...] = ()
    editable: bool = False
    marker: Marker | None = None
    options: PipOptions = _NONE
    hashes: tuple[str, ...] = ()
    fragment_hashes: tuple[str, ...] = ()
    lacks_hash: bool = False
    only_for: Marker | None = None
    where: str = field(default="", compare=False)

    def __str__(self) -> str:
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.name}{extras} @ {self.url}" if self.name else str(self.url)


ParsedRequirement: TypeAlias = PackageRequirement | PathRequirement | UrlRequirement


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectParts:
    """Which parts of a project are meant, as uv's options say it. `groups_only`: not its own dependencies, as `--group`
    says it to pip. `no_dev`: without the group `dev`; `no_default_groups`: without all that uv takes by default."""

    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    all_groups: bool = False
    all_extras: bool = False
    no_dev: bool = False
    no_default_groups: bool = False
    package: str | None = None
    groups_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What a project has uv choose by, for all that is resolved together: `settings` as in a uv.toml, with their places
    for messages; `overrides` in place of what anything requires of these projects; `excluded` projects, which nothing
    gets; and constraints on what builds are made with."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[ParsedRequirement, ...] = ()
    excluded: tuple[str, ...] = ()
    build_constraints: tuple[ParsedRequirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReference:
    """`-r PATH` or, as a constraint, `-c PATH`. `path` is as written; `options` hold for all it contains. `parts` are
    chosen of what a pyproject.toml or a uv.lock has."""

    path: str
    constraint: bool
    parts: ProjectParts = ProjectParts()
    options: PipOptions = _NONE
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedLine:
    """All that one line asks for. `variables` names the variables of this process that were put in for `${NAME}`."""

    requirements: tuple[ParsedRequirement, ...] = ()
    files: tuple[FileReference, ...] = ()
    options: PipOptions = _NONE
    require_hashes: bool = False
    variables: tuple[str, ...] = ()


def lacks_hash(requirement: str, where: str) -> RequirementError:
    """The error for a requirement without a hash in a file that has some."""
    return RequirementError(
        f"{where}: {requirement} has no --hash, though others in the file have one",
        hint="give every requirement a --hash, or none: klock locks the hashes itself",
    )


def hashes_in_fragment(url: str) -> tuple[str, ...]:
    """The hashes of `#sha256=HEX`, as `sha256:HEX`. Raises ValueError, saying what is wrong, for one that is none."""
    found = []
    for part in url.partition("#")[2].split("&"):
        if not re.match(r"(?:sha|md\d|blake|crc|shake|ripemd)", part, re.IGNORECASE):
            continue
        algorithm, equals, digits = part.partition("=")
        wanted = _HEX_DIGITS.get(algorithm)
        if wanted is None or not equals:
            names = ", ".join(_HEX_DIGITS)
            raise ValueError(f"{algorithm!r} is not a hash that can be checked; write one of {names}, and = behind it")
        if not re.fullmatch(r"[0-9A-Fa-f]*", digits):
            raise ValueError(f"{algorithm} has something in it that is not a hexadecimal digit")
        if len(digits) != wanted:
            raise ValueError(f"{algorithm} has {len(digits)} digits (expected {wanted})")
        found.append(f"{algorithm}:{digits.lower()}")
    return tuple(found)


def fragment_of(url: str) -> dict[str, str]:
    """The pairs of `#egg=name&subdirectory=x`, percent-decoded."""
    pairs = (p.partition("=") for p in url.partition("#")[2].split("&"))
    return {key: unquote(value) for key, equals, value in pairs if equals}
