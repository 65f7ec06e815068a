"""The steps of an image, each with its inputs and the layer that it makes."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

from klock.digests import Digest
from klock.lockfile.model.bases import DebPackage
from klock.lockfile.model.files import CopyLock, FileEntry, FilesLock, MountLock
from klock.lockfile.model.layers import KeptLayer, LayerLock, LockedVariable
from klock.lockfile.model.settings import SettingsLock
from klock.values import dataclass, replace

__all__ = [
    "AptLock",
    "ArgumentsLock",
    "CondaLock",
    "CondaPackage",
    "EnvLock",
    "LocalProject",
    "LockedFile",
    "LockedRequest",
    "PipLock",
    "PythonLock",
    "ServiceLock",
    "ShellLock",
    "StepLock",
    "WorkdirLock",
    "is_forced",
    "kept_layer_of",
    "layer_of",
    "with_layer",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvLock:
    """Variables, in the order written."""

    variables: tuple[LockedVariable, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(name for variable in self.variables for name in variable.secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentsLock:
    """Arguments of the build: variables that commands of later steps see, and the environment does not have."""

    arguments: tuple[LockedVariable, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(name for argument in self.arguments for name in argument.secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirLock:
    """An absolute working directory for later steps and containers. It is made for the user of that moment.

    `written` is the absolute path as the image's config has it (`/app/`), None if that is the same.
    """

    working_dir: str
    layer: LayerLock
    written: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonLock:
    """A Python of python-build-standalone at /opt/python, which `variables` put into PATH.

    `version` is what was asked for, `found` the version of the archive at `url`, which has `sha256` and `size` (bytes).
    """

    version: str
    sha256: str
    layer: LayerLock
    variables: tuple[LockedVariable, ...]
    found: str = ""
    url: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaPackage:
    """A conda package. `url` has no credentials; `sha256` and `size` (bytes) are of the archive there."""

    name: str
    version: str
    build: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaLock:
    """Conda packages in an environment at `prefix`, which `variables` put into PATH.

    `specs` and `channels` as written. `packages` are in the order in which they are installed; those named in `scripts`
    have a post-link script, which runs then.
    """

    specs: tuple[str, ...]
    channels: tuple[str, ...]
    prefix: str
    layer: LayerLock
    variables: tuple[LockedVariable, ...]
    packages: tuple[CondaPackage, ...] = ()
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """A local file that was read when locking (a requirements file), by its path relative to the image's folder."""

    path: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProject:
    """A Python project at a path inside the environment, where an earlier step put it, to be installed from there."""

    path: str
    name: str
    version: str | None = None
    editable: bool = False
    extras: tuple[str, ...] = ()
    build: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PipLock:
    """`requirements` as written (credentials by reference); `packages` are the pins this step installs.

    `leave_out`, `keep_layer` and `kept` are those of `ShellLock`.
    """

    requirements: tuple[str, ...]
    packages: tuple[str, ...]
    layer: LayerLock
    files: tuple[LockedFile, ...] = ()
    projects: tuple[LocalProject, ...] = ()
    secrets: tuple[str, ...] = ()
    force: bool = False
    leave_out: tuple[str, ...] = ()
    keep_layer: bool = False
    kept: KeptLayer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AptLock:
    """`packages` as written. `leave_out`, `keep_layer` and `kept` are those of `ShellLock`."""

    packages: tuple[str, ...]
    debs: tuple[DebPackage, ...]
    layer: LayerLock
    force: bool = False
    leave_out: tuple[str, ...] = ()
    keep_layer: bool = False
    kept: KeptLayer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedRequest:
    """A request that a shell step made, and the answer it gets at every replay: one line of the lockfile.

    `url` has `***` for each credential and each part of a signature. `sha256` and `size` (bytes) are of the answer's
    body as it is served; a HEAD has no body, its `size` is the announced one. `headers` are the answer's, those that
    `klock.recorder.headers` keeps, each `Name: value`, sorted. The rest tells requests to one URL apart and stands only
    where it must: `body` is the SHA-256 (hex) of the request's body, `accept` and `git_protocol` its headers of that
    name, `authorized` whether it carried credentials, `turn` (from 1) its number among equals that got unequal answers.
    `private`: the body is a stand-in; what was answered may not be stored.
    """

    method: str
    url: str
    status: int
    size: int
    sha256: str | None = None
    headers: tuple[str, ...] = ()
    body: str | None = None
    accept: str | None = None
    git_protocol: str | None = None
    authorized: bool | None = None
    turn: int | None = None
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellLock:
    """A shell command; `${NAME}` for a NAME in `secrets` stands for a value of the process environment.

    `leave_out` are patterns of paths that are not part of its layer. `keep_layer`: the step never runs at replay, the
    layer is taken from the store or a vault; `kept` says which bytes. `private_urls` are patterns of URLs whose answers
    are never stored. Found out when locking: `requests`, sorted; `unknown_hosts`, names that had no address; and
    `installed`, the Debian packages that the step brought, each `name version`.

    A Dockerfile's command names the `shell` that it is given to as the last word; else it is bash, or sh without it.
    With `words` they run instead, without a shell. `mounted` are the files of the build context that `mounts` show, by
    their paths in it. `is_script`: the command is a file that `shell` is given. `keep` are
    patterns of paths that belong to the layer although layers leave them out. `without_network`: it reaches nothing.
    """

    command: str
    layer: LayerLock
    shell: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    is_script: bool = False
    mounts: tuple[MountLock, ...] = ()
    mounted: tuple[FileEntry, ...] = ()
    keep: tuple[str, ...] = ()
    without_network: bool = False
    secrets: tuple[str, ...] = ()
    force: bool = False
    leave_out: tuple[str, ...] = ()
    keep_layer: bool = False
    private_urls: tuple[str, ...] = ()
    kept: KeptLayer | None = None
    installed: tuple[str, ...] = ()
    unknown_hosts: tuple[str, ...] = ()
    requests: tuple[LockedRequest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLock:
    """A command that runs as long as the environment does, as `ShellLock` otherwise. Commands of the environment begin
    when `wait_for` is ready: a port, or a command of a shell."""

    command: str
    secrets: tuple[str, ...] = ()
    wait_for: str | None = None


StepLock: TypeAlias = (
    EnvLock
    | PipLock
    | AptLock
    | FilesLock
    | ShellLock
    | ServiceLock
    | ArgumentsLock
    | SettingsLock
    | WorkdirLock
    | CopyLock
    | PythonLock
    | CondaLock
)


# Fields of these names mean the same in every kind of step: `layer`, `force`, `secrets`, `variables`, `arguments`,
# `leave_out`, `keep_layer`, `kept`, `working_dir`.


def layer_of(step: StepLock) -> LayerLock | None:
    """The layer that a step makes; None for a step that makes none."""
    layer: LayerLock | None = getattr(step, "layer", None)
    return layer


def with_layer(step: StepLock, layer: LayerLock) -> StepLock:
    """The step with another layer. Raises TypeError for a step that makes none."""
    if layer_of(step) is None:
        raise TypeError(f"{type(step).__name__} makes no layer")
    changed: StepLock = replace(cast(Any, step), layer=layer)
    return changed


def kept_layer_of(step: StepLock) -> KeptLayer | None:
    """The layer as an artifact, for a step that never runs at replay."""
    kept: KeptLayer | None = getattr(step, "kept", None)
    return kept


def is_forced(step: StepLock) -> bool:
    """Whether a step runs at every sync."""
    return bool(getattr(step, "force", False))
