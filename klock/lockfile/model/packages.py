"""Packages with their artifacts, after PEP 751: each is one file with its hash."""

from __future__ import annotations

from klock.values import dataclass

__all__ = ["LockedPackage", "SdistArtifact", "VcsArtifact", "WheelArtifact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelArtifact:
    """A wheel to fetch. `url` has no credentials. `name` is the file name."""

    name: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SdistArtifact:
    """A source archive to build. `wheel` is the wheel it makes (no url: it is built), which is what gets installed.

    `build` names the packages (`name==version`) that must be installed to build it; each is in the lockfile's packages.
    `subdirectory` is where in the archive the project is, if not at its top.
    """

    name: str
    url: str
    size: int
    sha256: str
    wheel: WheelArtifact
    build: tuple[str, ...] = ()
    subdirectory: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VcsArtifact:
    """A commit to build. `url` without credentials, `commit` in full; `wheel` and `build` as for an sdist.

    `requested_revision` is the branch or tag that was asked for: while the image asks for the same, the commit is kept.
    """

    type: str
    url: str
    commit: str
    wheel: WheelArtifact
    requested_revision: str | None = None
    subdirectory: str | None = None
    build: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """One distribution. `index` is the index page's base URL (None for a direct URL). `dependencies` are names.

    `build_only`: needed to build another package or a local project, never installed into the environment.
    `replaces`: the version of the base's own distribution that this one replaces.
    """

    name: str
    version: str
    index: str | None
    artifact: WheelArtifact | SdistArtifact | VcsArtifact
    dependencies: tuple[str, ...] = ()
    build_only: bool = False
    replaces: str | None = None

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"
