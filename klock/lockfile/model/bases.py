"""What a target is built on: a base image or Debian packages, and its Python."""

from __future__ import annotations

from typing import Final, TypeAlias

from klock.digests import Digest, digest_of_json
from klock.lockfile.model.settings import SettingsLock
from klock.values import dataclass

__all__ = [
    "DEBIAN_RECIPE",
    "BaseLock",
    "DebPackage",
    "DebianLock",
    "Distribution",
    "InstallFolders",
    "Interpreter",
    "OciBlob",
    "OciLayer",
    "OciLock",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OciBlob:
    """An OCI descriptor (image-spec, descriptor.md). `size` in bytes."""

    digest: Digest
    size: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OciLayer:
    """A layer: the compressed blob and the digest of the tar in it (`diff_id`)."""

    digest: Digest
    size: int
    media_type: str
    diff_id: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class OciLock:
    """A base from a registry or a layout folder. `reference` is as written.

    `index_digest` is None for a single-platform image. `environment`, `working_dir` and `user` are the config's, and so
    are `settings`, which only a Dockerfile's image takes over. `has_home`: HOME is the config's too; else it follows
    the user.
    """

    reference: str
    index_digest: Digest | None
    manifest: OciBlob
    config: OciBlob
    layers: tuple[OciLayer, ...]
    environment: tuple[tuple[str, str], ...] = ()
    working_dir: str = "/"
    user: str = ""
    settings: SettingsLock | None = None
    has_home: bool = False

    @property
    def id(self) -> Digest:
        """What the unpacked files depend on, and nothing else: the layers' diff_ids."""
        return digest_of_json(["oci", [layer.diff_id for layer in self.layers]])


@dataclass(frozen=True, slots=True, kw_only=True)
class DebPackage:
    """A Debian binary package. `path` is relative to the archive's root (`pool/main/...deb`), `size` in bytes."""

    name: str
    version: str
    architecture: str
    path: str
    size: int
    sha256: str
    archive: str = "debian"


DEBIAN_RECIPE: Final = 2
"""The version of the rules by which `klock.debian` makes a tree of packages: other rules may make another one. By the
first, the host's mmdebstrap made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianLock:
    """A base made of Debian packages and nothing else. `tree` is the digest of the manifest of the tree that they make
    by the rules of version `recipe`, `sketch` what tells where another tree differs (`klock.layers.sketch`)."""

    suite: str
    packages: tuple[str, ...]
    debs: tuple[DebPackage, ...]
    tree: Digest
    environment: tuple[tuple[str, str], ...] = ()
    working_dir: str = "/"
    user: str = ""
    recipe: int = 1
    sketch: str | None = None

    @property
    def id(self) -> Digest:
        return digest_of_json(["debian", self.suite, sorted(deb.sha256 for deb in self.debs), self.tree])


BaseLock: TypeAlias = OciLock | DebianLock


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Distribution:
    """An installed Python distribution: normalised name (PEP 503) and version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallFolders:
    """Where a Python has what wheels bring (packaging.python.org, "Binary distribution format"): absolute paths without
    symlinks."""

    purelib: str
    platlib: str
    scripts: str
    data: str
    headers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The Python that pip steps install into, as found in the environment just before the first of them.

    `distributions` were there before klock installed anything. `links` are symlinks in the folder `data`, with the
    folders that they lead to.
    """

    path: str
    version: str
    implementation: str
    libc: str
    sha256: str
    distributions: tuple[Distribution, ...] = ()
    folders: InstallFolders | None = None
    links: tuple[tuple[str, str], ...] = ()
