"""dpkg's record of what is installed: the stanzas of its status file (deb822(5), dpkg(1)).

Read here rather than by python-debian, which brings a detector of character sets, takes 180 ms to import and twice as
long to read: of each stanza klock wants five fields, none of which may be folded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from klock.values import dataclass

__all__ = ["STATUS_FILE", "InstalledPackage", "dependencies", "installed_packages"]

STATUS_FILE: Final = "/var/lib/dpkg/status"

_RELATION: Final = re.compile(r"^(Package|Status|Provides|Depends|Pre-Depends): (.*)$", re.MULTILINE)
_FIELD: Final = re.compile(r"^(Package|Version|Architecture|Multi-Arch|Status): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPackage:
    """`architecture` is as dpkg has it, such as `amd64` or `all`. `is_co_installable`: `Multi-Arch: same`, so that the
    package may be there for several architectures at once."""

    name: str
    version: str
    architecture: str
    is_co_installable: bool

    @property
    def qualified_name(self) -> str:
        """The name under which no other installed package goes: `libc6:amd64`, or just `python3`."""
        return f"{self.name}:{self.architecture}" if self.is_co_installable else self.name


def dependencies(status: bytes) -> dict[str, tuple[str, ...]]:
    """By name, the installed packages that an installed package depends on, each once, in the order it names them.

    Alternatives count where they are installed, and for a virtual package those that provide it (Debian Policy 7.1 to
    7.5).
    """
    stanzas = [dict(_RELATION.findall(stanza)) for stanza in status.decode("utf-8", "replace").split("\n\n")]
    there = {fields["Package"]: fields for fields in stanzas if fields.get("Status", "").endswith(" installed")}
    provided: dict[str, list[str]] = {name: [name] for name in there}
    for name, fields in there.items():
        for virtual in _names_in(fields.get("Provides", "")):
            provided.setdefault(virtual, []).append(name)
    return {name: tuple(_depends_on(name, fields, provided)) for name, fields in there.items()}


def _depends_on(name: str, fields: Mapping[str, str], provided: Mapping[str, Sequence[str]]) -> dict[str, None]:
    wanted = [*_names_in(fields.get("Pre-Depends", "")), *_names_in(fields.get("Depends", ""))]
    return dict.fromkeys(found for each in wanted for found in provided.get(each, ()) if found != name)


def _names_in(relations: str) -> list[str]:
    """`libc6 (>= 2.34), a | b:any` as names."""
    return re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", relations)


def installed_packages(status: bytes) -> tuple[InstalledPackage, ...]:
    """The packages that dpkg has unpacked and configured, in the order of its status file.

    One that was removed, or whose installation stopped half-way, is not among them. A stanza without one of the fields
    that dpkg requires is passed over.
    """
    found = []
    for stanza in status.decode("utf-8", "replace").split("\n\n"):
        fields = dict(_FIELD.findall(stanza))
        # Three words: what is wanted, whether an error is flagged, and the state (dpkg-query(1)).
        is_installed = fields.get("Status", "").endswith(" installed")
        if is_installed and {"Package", "Version", "Architecture"} <= fields.keys():
            found.append(
                InstalledPackage(
                    name=fields["Package"],
                    version=fields["Version"],
                    architecture=fields["Architecture"],
                    is_co_installable=fields.get("Multi-Arch") == "same",
                )
            )
    return tuple(found)
