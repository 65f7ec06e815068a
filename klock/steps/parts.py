"""What a step brings, in parts that people ask about by name: packages, files, variables, answers of the network."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from klock.lockfile.model import WheelArtifact
from klock.values import dataclass
from klock.words import in_bytes

if TYPE_CHECKING:
    from klock.lockfile.model import DebPackage, LockedPackage

__all__ = ["OF_CONDA", "TO_BUILD", "Part", "Sort", "part_of_deb", "part_of_file", "part_of_package"]


TO_BUILD: Final = " (to build)"
"""Ends the name of a package that is never installed, and may stand beside one that is."""

OF_CONDA: Final = " (conda)"
"""Ends the name of a conda package, which may be the name of a Python package too."""


class Sort(Enum):
    """The sorts, in the order in which they are told. The value is what JSON has."""

    BASE = "base"
    PYTHON = "python"
    PACKAGE = "package"
    DEB = "deb"
    FILE = "file"
    VARIABLE = "variable"
    SETTING = "setting"
    SERVICE = "service"
    STEP = "step"
    REQUEST = "request"
    LAYER = "layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that is locked. `name` tells it from others of its sort, `value` is what people read of it: a version,
    a value. `identity` differs where the bytes do, even if the value is the same. `size` is in bytes, of what is
    fetched or copied."""

    sort: Sort
    name: str
    value: str = ""
    identity: str = ""
    size: int = 0


def part_of_package(package: LockedPackage) -> Part:
    artifact = package.artifact
    wheel = artifact if isinstance(artifact, WheelArtifact) else artifact.wheel
    source = getattr(artifact, "commit", None) or getattr(artifact, "sha256", "")
    return Part(
        sort=Sort.PACKAGE,
        name=f"{package.name}{TO_BUILD}" if package.build_only else package.name,
        value=package.version,
        identity=f"{source} {wheel.sha256}",
        size=wheel.size,
    )


def part_of_deb(deb: DebPackage) -> Part:
    return Part(sort=Sort.DEB, name=deb.name, value=deb.version, identity=deb.sha256, size=deb.size)


def part_of_file(path: str, *, mode: int, size: int, identity: str, target: str | None = None) -> Part:
    """A file, symlink or folder that is copied to `path`."""
    if target is not None:
        return Part(sort=Sort.FILE, name=path, value=f"symlink to {target}")
    value = f"{in_bytes(size)}, mode {mode:04o}" if identity else f"folder, mode {mode:04o}"
    return Part(sort=Sort.FILE, name=path, value=value, identity=identity, size=size)
