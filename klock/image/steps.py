"""The steps of an image as values: what the builder collects and everything later reads.

A step says what the user wrote, with strings already made into typed values. It knows the builder call that made it
(`location`), which is for messages only: it takes no part in equality and never enters a digest or the lockfile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeAlias

__all__ = [
    "AptInstall",
    "Base",
    "CopyFiles",
    "DebianBase",
    "LayoutBase",
    "Location",
    "PipInstall",
    "RegistryBase",
    "RunBash",
    "SetEnvVars",
    "Step",
    "SyncPackage",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where in the user's code a step was made."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def below(self, root: Path) -> str:
        """As messages show it: `kimage.py:7`, relative to the folder `root` where it is inside."""
        return str(self).removeprefix(f"{root}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryBase:
    """A base image in an OCI registry. `reference` is as written: `python:3.12-slim`, `x@sha256:...`."""

    reference: str
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutBase:
    """A base image in an OCI image-layout folder, written `oci:PATH[:TAG]`. `path` is as written."""

    path: str
    tag: str | None = None
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianBase:
    """A base made from the Debian archive: the required packages of `suite`, apt, and `packages`."""

    suite: str
    packages: tuple[str, ...] = ()
    location: Location | None = field(default=None, compare=False)


Base: TypeAlias = RegistryBase | LayoutBase | DebianBase


@dataclass(frozen=True, slots=True, kw_only=True)
class PipInstall:
    """Requirement lines as the user wrote them, outer shell quotes removed: `--pre torch==2.0.0rc1`, `-r req.txt`.

    `leave_out` and `keep_layer` are those of `RunBash`.
    """

    requirements: tuple[str, ...]
    force: bool = False
    leave_out: tuple[str, ...] = ()
    keep_layer: bool = False
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AptInstall:
    """Debian packages, each `name` or `name=version`, without recommended packages.

    `leave_out` and `keep_layer` are those of `RunBash`.
    """

    packages: tuple[str, ...]
    force: bool = False
    leave_out: tuple[str, ...] = ()
    keep_layer: bool = False
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEnvVars:
    """Variables in the order written; values are text, not yet expanded."""

    variables: tuple[tuple[str, str], ...]
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBash:
    """A shell command. A command that ends in `&` is a service: started by sync and run, never part of a layer.

    `leave_out`: patterns of paths that are no part of its layer. `keep_layer`: the layer is locked as it is, and the
    command runs only when locking. `private_urls`: patterns of URLs whose answers are never stored.
    """

    command: str
    force: bool = False
    leave_out: tuple[str, ...] = ()
    keep_layer: bool = False
    private_urls: tuple[str, ...] = ()
    location: Location | None = field(default=None, compare=False)

    @property
    def is_service(self) -> bool:
        stripped = self.command.rstrip()
        return stripped.endswith("&") and not stripped.endswith("&&")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFiles:
    """Local files to place in the environment (`rsync` and `copy`).

    `source` is as written; `root` is the absolute host folder it resolves against. `dest` None means the basename of
    the source in the working directory.
    """

    source: str
    root: str = field(compare=False)
    dest: str | None = None
    contents: bool = False
    filter_options: str | None = None
    force: bool = False
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPackage:
    """A local Python package to place in the working directory and make importable.

    `package` is as written (a name or a path); `path` is the absolute host folder that was found for it.
    """

    package: str
    path: str = field(compare=False)
    force: bool = False
    location: Location | None = field(default=None, compare=False)

    @property
    def folder(self) -> str:
        """The folder it becomes in the working directory: the last part of the path, or the name as written."""
        return PurePath(self.path).name if "/" in self.package or "~" in self.package else self.package


Step: TypeAlias = PipInstall | AptInstall | SetEnvVars | RunBash | CopyFiles | SyncPackage
