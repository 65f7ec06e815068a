"""What package resolution is asked, and the world it is answered in: two values that the rest of the room passes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from packaging.utils import canonicalize_name

from klock.lockfile.model import LockedPackage, VcsArtifact
from klock.packages.credentials import Credentials
from klock.packages.index_mirrors import IndexMirrors
from klock.packages.indexes import DEFAULT_INDEX
from klock.packages.interpreter import TargetPython
from klock.packages.request import PipRequest
from klock.progress import Progress, Quiet
from klock.store import Store
from klock.values import dataclass
from klock.workshop.protocol import Workspace

__all__ = ["Question", "World"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The pip steps of one image, in order, and what the last lock chose for them (`previous`).

    Versions of `previous` stay where they still fit, except with `upgrade`, and those of `upgrade_packages`, which are
    project names in any spelling. `default_index` answers where neither the image nor its variables name an index.
    Files that came to an index after the moment `exclude_newer` do not count. With `keep_base` no distribution of the
    base may be replaced. `settled` is what earlier steps of the image have installed by now: it stays where it fits.
    """

    requests: tuple[PipRequest, ...]
    previous: tuple[LockedPackage, ...] = ()
    upgrade: bool = False
    upgrade_packages: frozenset[str] = frozenset()
    default_index: str = DEFAULT_INDEX
    exclude_newer: str | None = None
    keep_base: bool = False
    settled: tuple[LockedPackage, ...] = ()

    @property
    def preferred_versions(self) -> Mapping[str, str]:
        """The versions to keep, by project."""
        return {package.name: package.version for package in self.kept}

    @property
    def preferred_commits(self) -> Mapping[tuple[str, str | None], str]:
        """The commits to keep, by the URL of the repository and the revision that was asked for."""
        artifacts = [package.artifact for package in self.kept if isinstance(package.artifact, VcsArtifact)]
        return {(artifact.url, artifact.requested_revision): artifact.commit for artifact in artifacts}

    @property
    def kept(self) -> list[LockedPackage]:
        if self.upgrade:
            return [*self.settled]
        renewed = {canonicalize_name(name) for name in self.upgrade_packages}
        kept = [package for package in self.previous if not package.build_only and package.name not in renewed]
        return [*kept, *self.settled]

    def collect_credentials(self, world: World) -> Credentials:
        """Those in the steps' variables and lines; for any other index the world's netrc is asked."""
        requests = self.requests
        lines = [line for request in requests for line in (*request.requirements, *request.constraints)]
        return Credentials.collect(
            environments=[request.environment for request in self.requests],
            base={name: value for request in self.requests for name, value in request.base.items()},
            urls=[
                self.default_index,
                *(url for line in lines for url in (*line.options.urls, *line.text.split())),
            ],
            names={name: url for request in requests for name, url in request.index_names.items()},
            host=world.environ,
            netrc=world.netrc,
            ca_bundle=world.ca_bundle,
            mirrors=world.mirrors,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """An environment as it is just before a pip step, its Python, and what klock has at hand there.

    `workspace` is used up: builds may write anywhere in it. Close it without a snapshot. `environment` has the digests
    of the base and of the layers that it shows. `python` is what the first pip step finds. With `offline` no network is
    used: the store must have everything, and the choice is among `Question.previous`. `ca_bundle` has
    certificates that are trusted besides the host's; `local_hosts` are names that may lead to this machine; `environ`
    are klock's own variables, and `mirrors` say where the bytes of an index come from instead.
    """

    workspace: Workspace
    python: TargetPython
    store: Store
    environment: tuple[str, ...] = ()
    netrc: Path | None = None
    ca_bundle: Path | None = None
    local_hosts: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    mirrors: IndexMirrors = field(default_factory=IndexMirrors)
    offline: bool = False
    progress: Progress = field(default_factory=Quiet)
