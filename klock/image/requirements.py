"""What `pip_install` asks for as values: requirements (PEP 508), paths, URLs, files to read, with their options.

`klock.image.requirement_lines` makes them of text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from klock.image.pip_options import PipOptions
from klock.secrets.userinfo import PrivateUrl

__all__ = [
    "FileReference",
    "PackageRequirement",
    "ParsedLine",
    "ParsedRequirement",
    "PathRequirement",
    "UrlRequirement",
    "fragment_of",
]

_VERSION_CONTROLS: Final = ("git", "hg", "svn", "bzr")
_NONE: Final = PipOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRequirement:
    """A distribution from an index: `ray[data]==2.50.1; python_version < "3.13"`. Its `url` is always None."""

    requirement: Requirement
    options: PipOptions = _NONE
    hashes: tuple[str, ...] = ()
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
    """

    path: str
    name: str | None = None
    extras: tuple[str, ...] = ()
    editable: bool = False
    marker: Marker | None = None
    options: PipOptions = _NONE
    hashes: tuple[str, ...] = ()
    where: str = field(default="", compare=False)

    def __str__(self) -> str:
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{'-e ' if self.editable else ''}{self.path}{extras}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlRequirement:
    """An archive or a repository at a URL. `url` begins with the version control's name if it is one (`git+https`),
    and keeps `@REVISION` and the fragment; `name` is known where it was written or is in the file's name."""

    url: PrivateUrl
    name: str | None = None
    extras: tuple[str, ...] = ()
    editable: bool = False
    marker: Marker | None = None
    options: PipOptions = _NONE
    hashes: tuple[str, ...] = ()
    where: str = field(default="", compare=False)

    @property
    def version_control(self) -> str | None:
        """`git`, `hg`, `svn`, `bzr`, or None for an archive."""
        scheme = self.url.url.partition("://")[0].lower()
        vcs = scheme.partition("+")[0]
        return vcs if vcs in _VERSION_CONTROLS else None

    @property
    def subdirectory(self) -> str | None:
        return fragment_of(self.url.url).get("subdirectory")

    def __str__(self) -> str:
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.name}{extras} @ {self.url}" if self.name else str(self.url)


ParsedRequirement: TypeAlias = PackageRequirement | PathRequirement | UrlRequirement


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReference:
    """`-r PATH` or, as a constraint, `-c PATH`. `path` is as written; `options` hold for all it contains."""

    path: str
    constraint: bool
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


def fragment_of(url: str) -> dict[str, str]:
    """The pairs of `#egg=name&subdirectory=x`, percent-decoded."""
    pairs = (p.partition("=") for p in url.partition("#")[2].split("&"))
    return {key: unquote(value) for key, equals, value in pairs if equals}
