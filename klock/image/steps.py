"""The steps of an image as values: what the builder collects and everything later reads.

A step says what the user wrote, with strings already made into typed values. It knows the builder call that made it
(`location`), which is for messages only: it takes no part in equality and never enters a digest or the lockfile.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TypeAlias

from klock.values import dataclass, field

__all__ = [
    "AddPython",
    "AptInstall",
    "Argument",
    "Base",
    "CondaInstall",
    "Configure",
    "CopyFiles",
    "CopyText",
    "DebianBase",
    "DeclareArguments",
    "FromContext",
    "HealthCheck",
    "ImageStage",
    "LayoutBase",
    "Location",
    "PipInstall",
    "RegistryBase",
    "RunBash",
    "RunCommand",
    "RunMount",
    "SetEnvVars",
    "SetWorkingDir",
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

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from: the file's, or the current one when the code is not in a file."""
        file = Path(self.file)
        return file.absolute().parent if file.is_file() else Path.cwd()

    def below(self, root: Path) -> str:
        """As messages show it: `kimage.py:7`, relative to the folder `root` where it is inside."""
        return str(self).removeprefix(f"{root}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryBase:
    """A base image in an OCI registry. `reference` is as written: `python:3.12-slim`, `x@sha256:...`.

    `keeps_settings`: what its config says of how containers start holds for the image too, as for a Dockerfile's FROM.
    """

    reference: str
    keeps_settings: bool = False
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutBase:
    """A base image in an OCI image-layout folder, written `oci:PATH[:TAG]`. `path` is as written."""

    path: str
    tag: str | None = None
    keeps_settings: bool = False
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
    """Variables in the order written; values are text, not yet expanded.

    `escape` is None for the builder's rules of expansion, else the escape character of a Dockerfile, whose rules hold.
    """

    variables: tuple[tuple[str, str], ...]
    escape: str | None = None
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBash:
    """A shell command. A command that ends in `&` is a service: started by sync and run, never part of a layer.

    `leave_out`: patterns of paths that are not part of its layer. `keep_layer`: the layer is locked as it is, and the
    command runs only when locking. `private_urls`: patterns of URLs whose answers are never stored. `wait_for`: of a
    service, the port or the command that tells when it is ready.
    """

    command: str
    force: bool = False
    leave_out: tuple[str, ...] = ()
    keep_layer: bool = False
    private_urls: tuple[str, ...] = ()
    wait_for: str | None = None
    location: Location | None = field(default=None, compare=False)

    @property
    def is_service(self) -> bool:
        stripped = self.command.rstrip()
        return stripped.endswith("&") and not stripped.endswith("&&")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFiles:
    """Local files to place in the environment (`rsync` and `copy`).

    `source` is as written; `root` is the absolute host folder it resolves against. `dest` None means the basename of
    the source in the working directory. `owner` and `mode` are as in COPY's --chown and --chmod.
    """

    source: str
    root: str = field(compare=False)
    dest: str | None = None
    contents: bool = False
    filter_options: str | None = None
    owner: str | None = None
    mode: str | None = None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPython:
    """A Python of python-build-standalone: `version` is two or three numbers, such as `3.12`."""

    version: str
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaInstall:
    """Conda packages, each a match specification as written, of `channels`, at the absolute path `prefix`."""

    specs: tuple[str, ...]
    channels: tuple[str, ...]
    prefix: str
    location: Location | None = field(default=None, compare=False)


# -- what Dockerfiles say. Texts are words as written: they are expanded, by the rules of Dockerfiles and with the
# escape character `escape`, when it is known which variables the base image has.


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An ARG: `default` is not yet expanded, `given` is a value that needs no expansion and wins."""

    name: str
    default: str | None = None
    given: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclareArguments:
    """Arguments of the build: commands of later steps see them as variables, the environment does not."""

    arguments: tuple[Argument, ...]
    escape: str
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMount:
    """What a command sees at `target` while it runs. `kind` is one of bind, cache, tmpfs and secret; `mode`, `uid` and
    `gid` are as written."""

    kind: str
    target: str
    source: str = ""
    stage: str | None = None
    secret: str = ""
    variable: str | None = None
    required: bool = False
    writable: bool = False
    mode: str | None = None
    uid: str = "0"
    gid: str = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCommand:
    """A command of a Dockerfile: `command` is text for the shell of the moment, or `words` run without a shell.

    `is_script`: the text is a file that its first line says how to run. `leave_out`, `keep_layer` and `private_urls`
    are those of `RunBash`; `keep` are patterns of paths that belong to its layer although layers leave them out.
    `without_network`: it reaches nothing but itself. `context` is the host folder that mounts of files start at,
    `ignore_file` what says which of them do not count.
    """

    escape: str
    context: str = field(compare=False)
    ignore_file: str | None = field(default=None, compare=False)
    command: str = ""
    words: tuple[str, ...] = ()
    is_script: bool = False
    mounts: tuple[RunMount, ...] = ()
    leave_out: tuple[str, ...] = ()
    keep_layer: bool = False
    private_urls: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    without_network: bool = False
    force: bool = False
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyText:
    """A file that stands in the Dockerfile itself. With `expands` variables in it are expanded."""

    name: str
    content: str
    expands: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FromContext:
    """COPY and ADD. `stage` names the stage that the files come from, else they are in the folder `context`.

    `unpacks`: archives are unpacked and URLs fetched (ADD). `unpack` is what --unpack says: without it archives of the
    context are unpacked, and those of a URL are not. `checksum` is that of a URL, or the commit of a git repository,
    whose folder is there too if `keeps_git`. `ignore_file` says which files of the context do not count.
    """

    escape: str
    context: str = field(compare=False)
    ignore_file: str | None = field(default=None, compare=False)
    sources: tuple[str, ...]
    texts: tuple[CopyText, ...] = ()
    dest: str
    stage: str | None = None
    owner: str | None = None
    mode: str | None = None
    exclude: tuple[str, ...] = ()
    parents: bool = False
    unpacks: bool = False
    unpack: bool | None = None
    checksum: str | None = None
    keeps_git: bool | None = None
    force: bool = False
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWorkingDir:
    """The folder that later steps and containers work in. It is made."""

    path: str
    escape: str
    location: Location | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """A container's health check: `test` are the words of an OCI config, times are in nanoseconds."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """How later steps and containers run; None and empty: it says nothing of that.

    Of `entrypoint`, `command` and the health check's a single text is for the shell of the moment, and `in_shell` names
    them.
    """

    escape: str
    user: str | None = None
    shell: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    in_shell: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    health: HealthCheck | None = None
    stop_signal: str | None = None
    author: str | None = None
    on_build: tuple[str, ...] = ()
    location: Location | None = field(default=None, compare=False)


Step: TypeAlias = (
    PipInstall
    | AptInstall
    | SetEnvVars
    | RunBash
    | CopyFiles
    | SyncPackage
    | DeclareArguments
    | RunCommand
    | FromContext
    | SetWorkingDir
    | Configure
    | AddPython
    | CondaInstall
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStage:
    """A stage that other stages take files from, or an image: `name` is how their steps call it."""

    name: str
    base: Base
    steps: tuple[Step, ...] = ()
