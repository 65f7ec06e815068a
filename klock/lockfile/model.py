"""The lockfile as values: for each target a base, an interpreter, the steps in order, and every artifact with its hash.

Frozen, compared by value, without clock, host path or secret. In the file, tables that are equal for several targets
stand once (`klock.lockfile.format`). What can be computed from the rest (step keys, the fingerprint) is not stored, so
that two branches that touch different steps merge without a conflict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, cast

from klock.digests import Digest, digest_of_json
from klock.targets import Target

__all__ = [
    "DEBIAN_RECIPE",
    "FIRST_LINE",
    "AptLock",
    "ArgumentsLock",
    "BaseLock",
    "CopiedFile",
    "CopiedText",
    "CopyLock",
    "DebPackage",
    "DebianLock",
    "Distribution",
    "DownloadedFile",
    "EnvLock",
    "FileEntry",
    "FilesLock",
    "HealthLock",
    "ImageLock",
    "Interpreter",
    "KeptLayer",
    "LayerLock",
    "LocalProject",
    "LockedFile",
    "LockedPackage",
    "LockedRequest",
    "LockedVariable",
    "Lockfile",
    "MountLock",
    "OciBlob",
    "OciLayer",
    "OciLock",
    "PipLock",
    "SdistArtifact",
    "ServiceLock",
    "SettingsLock",
    "ShellLock",
    "StageLock",
    "StepLock",
    "TargetLock",
    "VcsArtifact",
    "WheelArtifact",
    "WorkdirLock",
    "is_forced",
    "kept_layer_of",
    "layer_of",
    "with_layer",
]

FIRST_LINE: Final = "# Written by klock. To change it, change the image and run `klock lock`.\n"
"""Of every lockfile, by which it can be told from those of other tools."""


# -- how steps and containers run


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLock:
    """A container's health check (OCI config, as docker has it); times in nanoseconds, 0 is the engine's default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsLock:
    """What an instruction, or a base image's config, says of how steps and containers run; None: nothing of that.

    `user` is as in an OCI config, `shell` what shell commands are given to, `entrypoint` and `command` are words. The
    other names are docker's: labels, exposed ports, volumes, health check, stop signal, triggers. `home` is the user's
    home folder, as found when locking: what HOME is unless a variable says otherwise.
    """

    user: str | None = None
    home: str | None = None
    shell: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    labels: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    health: HealthLock | None = None
    stop_signal: str | None = None
    on_build: tuple[str, ...] = ()

    @property
    def start_command(self) -> tuple[str, ...]:
        """What a container runs that was started without a command."""
        return (*(self.entrypoint or ()), *(self.command or ()))

    def then(self, later: SettingsLock) -> SettingsLock:
        """These, and what `later` says over them."""
        return SettingsLock(
            user=self.user if later.user is None else later.user,
            home=self.home if later.home is None else later.home,
            shell=self.shell if later.shell is None else later.shell,
            entrypoint=self.entrypoint if later.entrypoint is None else later.entrypoint,
            command=self.command if later.command is None else later.command,
            labels=tuple({**dict(self.labels), **dict(later.labels)}.items()),
            ports=tuple(dict.fromkeys((*self.ports, *later.ports))),
            volumes=tuple(dict.fromkeys((*self.volumes, *later.volumes))),
            health=self.health if later.health is None else later.health,
            stop_signal=self.stop_signal if later.stop_signal is None else later.stop_signal,
            on_build=(*self.on_build, *later.on_build),
        )


# -- base


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
    are `settings`, which only a Dockerfile's image takes over.
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


# -- packages (after PEP 751)


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
    """

    name: str
    url: str
    size: int
    sha256: str
    wheel: WheelArtifact
    build: tuple[str, ...] = ()


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


# -- steps


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLock:
    """A step's effect in canonical form. `files` counts entries, `size` is the bytes of all files.

    `sketch` (`klock.layers.sketch`) tells a replay that makes something else where it differs; the layers of local
    files, whose paths the lockfile has, do without.
    """

    digest: Digest
    files: int
    size: int
    sketch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedVariable:
    """A variable as written and as expanded. In both, `${NAME}` for a NAME in `secrets` stands for a value that is
    taken from the process environment at replay."""

    name: str
    written: str
    value: str
    secrets: tuple[str, ...] = ()


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
    """A working directory, absolute, for later steps and for containers. It is made, for the user of the moment."""

    working_dir: str
    layer: LayerLock


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
class FileEntry:
    """`path` relative to the source; `mode` 0o644 or 0o755 for files; `digest` for files, `target` for symlinks."""

    path: str
    mode: int
    size: int = 0
    digest: Digest | None = None
    target: str | None = None

    @property
    def is_folder(self) -> bool:
        return self.digest is None and self.target is None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesLock:
    """Files that `rsync`, `copy` or `sync_package` place at `destination` (absolute).

    `owner` is `user:group` as the environment knows them, `chmod` what was asked of the entries' modes.
    For `sync_package`, `package` is its argument and `path_file` the absolute path of the `.pth` file, which holds
    `import_paths`, that makes it importable.
    """

    source: str
    destination: str
    entries: tuple[FileEntry, ...]
    tree: Digest
    layer: LayerLock
    dest: str | None = None
    contents: bool = False
    filter_options: str | None = None
    package: str | None = None
    path_file: str | None = None
    import_paths: tuple[str, ...] = ()
    force: bool = False
    owner: str | None = None
    chmod: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile:
    """A path that COPY places, relative to the destination, `""` for the destination itself: a file (`digest`), a
    symlink (`target`) or a folder. `source` is where in the build context it is, unless that is the same path.

    `archive`: the file is unpacked there.
    """

    path: str
    mode: int
    size: int = 0
    digest: Digest | None = None
    target: str | None = None
    source: str | None = None
    archive: bool = False

    @property
    def is_folder(self) -> bool:
        return self.digest is None and self.target is None

    @property
    def in_context(self) -> str:
        return self.path if self.source is None else self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedText:
    """A file that stands in the Dockerfile, at `path` below the destination."""

    path: str
    content: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadedFile:
    """A file that was fetched, at `path` below the destination. `url` has no credentials. `pinned`: the image names the
    hash itself. `archive`: if it is a tar archive it is unpacked there."""

    url: str
    path: str
    sha256: str
    size: int = 0
    mode: int = 0o600
    pinned: bool = False
    archive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLock:
    """COPY and ADD of a Dockerfile: files that go to `destination` (absolute).

    `sources` are as expanded. `into`: the destination is a folder whatever is there; else a single file goes into it
    only if it is one already. `owner` is `user:group` as the environment knows them, `stage` where files come from
    instead of the build context; they are then known by the layer alone.
    """

    sources: tuple[str, ...]
    destination: str
    layer: LayerLock
    into: bool = False
    owner: str | None = None
    chmod: str | None = None
    exclude: tuple[str, ...] = ()
    parents: bool = False
    stage: str | None = None
    files: tuple[CopiedFile, ...] = ()
    texts: tuple[CopiedText, ...] = ()
    downloads: tuple[DownloadedFile, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLock:
    """What a command sees at `target` (absolute) while it runs, and no layer has.

    bind: `source` of the build context, or of `stage`. cache and tmpfs: an empty folder.
    secret: the value of the process's variable `secret`, as a file, or as the variable `variable`; it may be missing
    unless `required`.
    """

    kind: str
    target: str
    source: str = ""
    stage: str | None = None
    secret: str = ""
    variable: str | None = None
    required: bool = False
    writable: bool = False
    mode: int = 0
    uid: int = 0
    gid: int = 0


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
class KeptLayer:
    """A layer that is an artifact itself, as its step does not repeat: the tar archive `Workshop.write_layer` makes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellLock:
    """A shell command; `${NAME}` for a NAME in `secrets` stands for a value of the process environment.

    `leave_out` are patterns of paths that are no part of its layer. `keep_layer`: the step never runs at replay, the
    layer is taken from the store or a vault; `kept` says which bytes. `private_urls` are patterns of URLs whose answers
    are never stored. Found out when locking: `requests`, sorted; `unknown_hosts`, names that had no address; and
    `installed`, the Debian packages that the step brought, each `name version`.

    A Dockerfile's command names the `shell` that it is given to as the last word; else it is bash, or sh without it.
    With `words` they run instead, without a shell. `mounted` are the files of the build context that `mounts` show, by
    their paths in it. `is_script`: the command is a file that `shell` is given. `keep` are
    patterns of paths that belong to the layer although layers leave them out.
    """

    command: str
    layer: LayerLock
    shell: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    is_script: bool = False
    mounts: tuple[MountLock, ...] = ()
    mounted: tuple[FileEntry, ...] = ()
    keep: tuple[str, ...] = ()
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
    """A command that runs as long as the environment does, as `ShellLock` otherwise."""

    command: str
    secrets: tuple[str, ...] = ()


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


# -- the whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLock:
    """What the image says besides its base and steps, and what it was locked with.

    `context` is the build context of its Dockerfile, from the folder of that file, where it is another one;
    `build_args` are the arguments that were given for it. Files that came to a package index after the moment
    `exclude_newer` (RFC 3339) did not count.
    """

    name: str | None = None
    python_path: str | None = None
    install_cmd: str | None = None
    context: str | None = None
    build_args: tuple[LockedVariable, ...] = ()
    exclude_newer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLock:
    """A stage of a Dockerfile, or an image, that files are taken from: an image of its own, in a name."""

    name: str
    base: BaseLock
    steps: tuple[StepLock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLock:
    """Everything one target's environment is made of. `stages` are those that its steps take files from, each after
    those that it takes files from itself."""

    target: Target
    base: BaseLock
    interpreter: Interpreter | None
    steps: tuple[StepLock, ...]
    packages: tuple[LockedPackage, ...]
    stages: tuple[StageLock, ...] = ()

    @property
    def locks_of_stages(self) -> dict[str, TargetLock]:
        """Each stage as a target of its own, by its name."""
        return {
            stage.name: TargetLock(
                target=self.target,
                base=stage.base,
                interpreter=None,
                steps=stage.steps,
                packages=(),
                stages=self.stages[:number],
            )
            for number, stage in enumerate(self.stages)
        }

    @property
    def layers(self) -> tuple[Digest, ...]:
        """The digests of the steps' layers, in order."""
        return tuple(layer.digest for step in self.steps if (layer := layer_of(step)) is not None)

    @property
    def variables(self) -> tuple[LockedVariable, ...]:
        """What the steps set, in order; the last of a name holds."""
        return tuple(v for step in self.steps for v in getattr(step, "variables", ()))

    @property
    def environment(self) -> dict[str, str]:
        """The environment's variables, secrets still as references."""
        return {**self._of_base, **{v.name: v.value for v in self.variables}}

    @property
    def _of_base(self) -> dict[str, str]:
        """The variables of the base, and the home of the user."""
        home = self.settings.home
        return {**({} if home is None else {"HOME": home}), **dict(self.base.environment)}

    @property
    def seen_variables(self) -> tuple[LockedVariable, ...]:
        """What a next step's commands see besides the base's variables: arguments of the build too."""
        found = ((*getattr(step, "variables", ()), *getattr(step, "arguments", ())) for step in self.steps)
        return tuple(variable for variables in found for variable in variables)

    @property
    def seen_environment(self) -> dict[str, str]:
        """The variables that a next step's commands see, secrets still as references."""
        return {**self._of_base, **{v.name: v.value for v in self.seen_variables}}

    @property
    def settings(self) -> SettingsLock:
        """What base and steps say of how steps and containers run."""
        settings = (isinstance(self.base, OciLock) and self.base.settings) or SettingsLock()
        for step in self.steps:
            if isinstance(step, SettingsLock):
                settings = settings.then(step)
        return settings

    @property
    def user(self) -> str:
        """Whom steps and containers run as from here on."""
        user = self.settings.user
        return self.base.user if user is None else user

    @property
    def working_dir(self) -> str:
        """Where they begin."""
        found = (getattr(step, "working_dir", None) for step in reversed(self.steps))
        return next((path for path in found if path is not None), self.base.working_dir)

    @property
    def public_environment(self) -> dict[str, str]:
        """The environment's variables without those that hold a secret."""
        variables = self._of_base
        for variable in self.variables:
            if variable.secrets:
                variables.pop(variable.name, None)
            else:
                variables[variable.name] = variable.value
        return variables

    @property
    def secrets(self) -> frozenset[str]:
        """Names whose values replay takes from the process environment."""
        steps = (*self.steps, *(step for stage in self.stages for step in stage.steps))
        return frozenset(name for step in steps for name in getattr(step, "secrets", ()))

    @property
    def leave_out(self) -> tuple[str, ...]:
        """Patterns of paths that steps leave out of their layers."""
        return tuple(pattern for step in self.steps for pattern in getattr(step, "leave_out", ()))

    @property
    def packages_by_pin(self) -> Mapping[str, LockedPackage]:
        return {package.pin: package for package in self.packages}

    @property
    def fingerprint(self) -> Digest:
        """The environment in one digest: base, layers and variables, the same in every place."""
        from klock.lockfile.codec import encode

        parts: dict[str, object] = {
            "base": self.base.id,
            "layers": list(self.layers),
            "environment": sorted(self.environment.items()),
            "working_dir": self.working_dir,
            "user": self.user,
        }
        if settings := encode(replace(self.settings, user=None, home=None)):
            parts["settings"] = settings
        return digest_of_json(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockfile:
    image: ImageLock
    normalisation: int
    targets: tuple[TargetLock, ...]

    def for_target(self, target: Target) -> TargetLock | None:
        return next((t for t in self.targets if t.target == target), None)
