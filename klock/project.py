"""A project on disk: its folder, its settings, and the image it defines.

Settings are the table `[tool.klock]` of `pyproject.toml`, all of them optional:

    [tool.klock]
    image = "kimage.py:image"                                     # FILE[:NAME], from the project's folder; "Dockerfile"
    targets = ["linux/amd64", "linux/amd64/cuda12.4"]
    engine = "podman"                                             # sandbox, podman, docker, here
    registry-mirrors = {"docker.io" = "http://127.0.0.1:5000"}    # registry -> where to ask instead
    debian-mirror = "http://deb.debian.org/debian"
    index-url = "https://pypi.org/simple"                         # the package index, unless a requirement names one
    index-mirrors = {"https://pypi.org/simple" = "https://h/simple"}    # index -> where its bytes come from instead
    pytorch-indexes = {"cuda12.4" = "https://download.pytorch.org/whl/cu124"}    # PyTorch's packages, by accelerator
    ca-bundle = "certs/ours.pem"                                  # PEM file, from the project's folder
    local-hosts = ["index.internal"]                              # names that steps may reach on this very machine
    trusted-keys = ["keys/release.pub"]                           # one of them must have signed what --frozen uses
    exclude-newer = "2026-01-31"                                  # files that came to an index later do not count
    cache = "oci://registry.example.com/team/cache"               # a repository where layers are looked for first
    vault = "/srv/vault"                                          # where a sync takes from what the store lacks
    keep-base = true                                              # nothing replaces Python packages that the base has
    mounts = [".:/work"]                                          # what `klock run` and `klock shell` mount
    policy = {indexes = ["https://pypi.org/simple"], no-sdists = true}    # what may be locked: klock.policy
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from klock.documents import read_toml, shown
from klock.errors import ImageError, KlockError
from klock.image.conflicts import conflict_in
from klock.image.loading import ImageReference, LoadedImage, in_folder, load, lockfile_of
from klock.places import PLACES
from klock.policy.rules import Policy, read_policy
from klock.secrets.credential_files import Treatment
from klock.secrets.references import refuse_literals
from klock.targets import Target
from klock.values import dataclass, field
from klock.words import did_you_mean

__all__ = [
    "LoadedImage",
    "Settings",
    "find_image",
    "find_root",
    "load_image",
    "load_settings",
    "lockfile_path",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`[tool.klock]` of `file`. `None` and empty mean that klock's default holds; no `targets` means this machine's."""

    file: Path | None = None
    image: str | None = None
    targets: tuple[Target, ...] = ()
    engine: str | None = None
    registry_mirrors: Mapping[str, str] = field(default_factory=dict)
    debian_mirror: str | None = None
    index_url: str | None = None
    index_mirrors: Mapping[str, str] = field(default_factory=dict)
    pytorch_indexes: Mapping[str, str] = field(default_factory=dict)
    ca_bundle: Path | None = None
    local_hosts: tuple[str, ...] = ()
    trusted_keys: tuple[Path, ...] = ()
    credential_files: Treatment = Treatment.WARN
    keep_base: bool = False
    exclude_newer: str | None = None
    cache: str | None = None
    vault: str | None = None
    policy: Policy = field(default_factory=Policy)
    mounts: tuple[str, ...] = ()


_MARKS: Final = ("pyproject.toml", "kimage.py", ".git")


def find_root(start: Path) -> Path:
    """The project that the folder `start` is in: the nearest folder upwards with a pyproject.toml, a kimage.py or a
    .git; without any, `start` itself."""
    start = start.absolute()
    return next((f for f in (start, *start.parents) if any((f / mark).exists() for mark in _MARKS)), start)


def load_settings(folder: Path) -> Settings:
    """The settings that hold in `folder`: of the nearest pyproject.toml upwards, not looked for above the folder with
    .git. Raises KlockError for settings that cannot be read."""
    folder = folder.absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / "pyproject.toml").is_file():
            return _read_settings(candidate / "pyproject.toml")
        if (candidate / ".git").exists():
            break
    return Settings()


def find_image(spec: str | None = None, *, folder: Path | None = None) -> ImageReference:
    """The image `spec` names, FILE[:NAME] from `folder` (by default the current one).

    Without `spec` it is the one the settings name, from the folder of their pyproject.toml, or else `kimage.py`, or a
    Dockerfile, in the project's folder. Raises ImageError, and KlockError for settings that cannot be read.
    """
    start = folder or Path.cwd()
    if spec is not None:
        reference = ImageReference.parse(spec, folder=start)
        return in_folder(reference.file, reference.name) if reference.file.is_dir() else reference
    settings = load_settings(start)
    if settings.image is not None and settings.file is not None:
        reference = ImageReference.parse(settings.image, folder=settings.file.parent)
        if not reference.file.is_file():
            raise ImageError(
                f"{settings.file}: tool.klock.image is {settings.image!r}, and there is no such file",
                hint="correct the setting, or write that file",
            )
        return reference
    return in_folder(find_root(start))


def load_image(spec: str | None = None, *, folder: Path | None = None) -> LoadedImage:
    """The image that `find_image` finds. Raises ImageError when there is none."""
    return load(find_image(spec, folder=folder))


def lockfile_path(loaded: LoadedImage) -> Path:
    """`kimage.lock` beside `kimage.py`; `kimage.NAME.lock` for an object with another name than `image`."""
    return lockfile_of(ImageReference(file=loaded.file, name=loaded.name))


def _read_settings(pyproject: Path) -> Settings:
    text = ""
    try:
        text = pyproject.read_bytes().decode("utf-8")
        document = read_toml(text)
    except (OSError, ValueError) as error:
        if (conflict := conflict_in(text, pyproject.name)) is not None:
            raise KlockError(conflict[0], hint=conflict[1]) from error
        raise KlockError(f"cannot read {pyproject}: {error}", hint="correct that file: it is TOML in UTF-8") from error
    tool = document.get("tool", {})
    table = tool.get("klock", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise KlockError(f"{pyproject}: tool.klock is not a table")
    return _Reader(pyproject, table).settings()


class _Reader:
    """Typed values out of the table, each error with the file and the key."""

    def __init__(self, file: Path, table: dict[str, Any]) -> None:
        self._file = file
        self._table = dict(table)

    def settings(self) -> Settings:
        settings = Settings(
            file=self._file,
            image=self._image(),
            targets=tuple(self._targets()),
            engine=self._engine(),
            registry_mirrors=self._mirrors(),
            debian_mirror=self._url("debian-mirror"),
            index_url=self._url("index-url"),
            index_mirrors=self._index_mirrors(),
            pytorch_indexes=self._pytorch_indexes(),
            ca_bundle=self._ca_bundle(),
            local_hosts=self._local_hosts(),
            trusted_keys=self._trusted_keys(),
            credential_files=self._credential_files(),
            keep_base=self._flag("keep-base"),
            exclude_newer=self._moment("exclude-newer"),
            cache=self._cache(),
            vault=self._vault(),
            policy=self._policy(),
            mounts=self._mounts(),
        )
        if self._table:
            unknown = sorted(self._table)[0]
            known = [name.replace("_", "-") for name in Settings.__annotations__ if name != "file"]
            hint = did_you_mean(unknown, known) or f"the settings are {', '.join(known)}"
            raise self._error(unknown, "is not a setting of klock", hint=hint)
        return settings

    def _error(self, key: str, what: str, hint: str | None = None) -> KlockError:
        return KlockError(f"{self._file}: tool.klock.{key} {what}", hint=hint)

    def _text(self, key: str, value: object) -> str:
        if not isinstance(value, str):
            raise self._error(key, f"is {shown(value)} (expected a string)")
        if not value:
            raise self._error(key, "is empty")
        return value

    def _optional_text(self, key: str) -> str | None:
        value = self._table.pop(key, None)
        return None if value is None else self._text(key, value)

    def _moment(self, key: str) -> str | None:
        from klock.packages.exclude_newer import read_moment

        written = self._table.pop(key, None)
        return None if written is None else read_moment(str(written), what=f"{self._file}: tool.klock.{key}")

    def _mounts(self) -> tuple[str, ...]:
        """`SOURCE:TARGET[:ro]` each, with SOURCE from the project's folder."""
        written = self._table.pop("mounts", [])
        if not isinstance(written, list):
            raise self._error("mounts", f"is {shown(written)} (expected a list of SOURCE:TARGET)")
        found = []
        for number, each in enumerate(written):
            source, colon, rest = self._text(f"mounts[{number}]", each).partition(":")
            if not source or not colon or not rest.startswith("/"):
                hint = "write SOURCE:TARGET or SOURCE:TARGET:ro, such as '.:/work'"
                raise self._error(f"mounts[{number}]", f"is {shown(each)}", hint=hint)
            found.append(f"{self._file.parent / Path(source).expanduser()}:{rest}")
        return tuple(found)

    def _policy(self) -> Policy:
        written = self._table.pop("policy", None)
        if written is None:
            return Policy()
        return read_policy(
            written, lambda key, what, hint: self._error(f"policy.{key}" if key else "policy", what, hint=hint)
        )

    def _flag(self, key: str) -> bool:
        written = self._table.pop(key, False)
        if not isinstance(written, bool):
            raise self._error(key, f"is {shown(written)} (expected true or false)")
        return written

    def _image(self) -> str | None:
        written = self._optional_text("image")
        if written is not None:
            try:
                ImageReference.parse(written, folder=self._file.parent)
            except ImageError as error:
                raise self._error("image", f"is {shown(written)}", hint=error.hint) from error
        return written

    def _pytorch_indexes(self) -> dict[str, str]:
        written = self._table.pop("pytorch-indexes", {})
        if not isinstance(written, dict):
            raise self._error("pytorch-indexes", f"is {shown(written)} (expected accelerators and URLs)")
        for accelerator, url in written.items():
            key = f"pytorch-indexes.{accelerator}"
            Target.parse(f"linux/amd64/{accelerator}")
            if not self._text(key, url).startswith(("https://", "http://")):
                raise self._error(key, f"is {shown(url)} (expected an http or https URL)")
        return dict(written)

    def _targets(self) -> list[Target]:
        written = self._table.pop("targets", [])
        if not isinstance(written, list):
            raise self._error("targets", f"is {shown(written)} (expected a list of strings)")
        targets: list[Target] = []
        for index, entry in enumerate(written):
            key = f"targets[{index}]"
            try:
                target = Target.parse(self._text(key, entry))
            except KlockError as error:
                if error.hint is None:
                    raise
                raise self._error(key, f"is {shown(entry)}: {error.message}", hint=error.hint) from error
            if target in targets:
                raise self._error(key, f"has {shown(entry)} twice")
            targets.append(target)
        return targets

    def _engine(self) -> str | None:
        engine = self._optional_text("engine")
        if engine is not None and engine not in PLACES:
            raise self._error("engine", f"is {shown(engine)}", hint=f"the engines are {', '.join(PLACES)}")
        return engine

    def _mirrors(self) -> dict[str, str]:
        written = self._table.pop("registry-mirrors", {})
        if not isinstance(written, dict):
            raise self._error("registry-mirrors", f"is {shown(written)} (expected a table of registries and URLs)")
        for registry, url in written.items():
            key = f'registry-mirrors."{registry}"'
            if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", registry):
                raise self._error(key, "is not a registry's host", hint='write for example "docker.io"')
            self._checked_url(key, self._text(key, url))
        return dict(written)

    def _index_mirrors(self) -> dict[str, str]:
        written = self._table.pop("index-mirrors", {})
        if not isinstance(written, dict):
            raise self._error("index-mirrors", f"is {shown(written)} (expected a table of URLs and URLs)")
        for url, mirror in written.items():
            key = f'index-mirrors."{url}"'
            for each in (url, self._text(key, mirror)):
                if not self._checked_url(key, each).startswith(("https://", "http://")):
                    raise self._error(key, f"has {shown(each)} (expected an http or https URL)")
        return dict(written)

    def _url(self, key: str) -> str | None:
        written = self._optional_text(key)
        return None if written is None else self._checked_url(key, written)

    def _checked_url(self, key: str, url: str) -> str:
        if not re.match(r"(https?|file)://\S+\Z", url):
            raise self._error(
                key, f"is {shown(url)} (expected a URL)", hint="write https://..., http://... or file:///..."
            )
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise self._error(key, "has a user or password in it", hint="keep them in a netrc file")
        refuse_literals(url, what=f"{self._file}: tool.klock.{key}")
        return url

    def _cache(self) -> str | None:
        written = self._optional_text("cache")
        if written is not None and not re.fullmatch(r"oci://[A-Za-z0-9.\-]+(:\d+)?(/[a-z0-9._\-]+)+", written):
            hint = 'write for example "oci://registry.example.com/team/cache"'
            raise self._error("cache", f"is {shown(written)} (expected the address of a repository)", hint=hint)
        return written

    def _vault(self) -> str | None:
        """An address as it is, and a folder from that of the settings."""
        written = self._optional_text("vault")
        if written is None or "://" in written:
            return written
        return str(self._file.parent / written)

    def _local_hosts(self) -> tuple[str, ...]:
        written = self._table.pop("local-hosts", [])
        if not isinstance(written, list):
            raise self._error("local-hosts", f"is {shown(written)} (expected a list of host names)")
        for index, name in enumerate(written):
            if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", name):
                hint = 'write for example ["index.internal"]; localhost itself is the step\'s own'
                raise self._error(f"local-hosts[{index}]", f"is {shown(name)} (expected a host name)", hint=hint)
        return tuple(written)

    def _trusted_keys(self) -> tuple[Path, ...]:
        written = self._table.pop("trusted-keys", [])
        if not isinstance(written, list):
            raise self._error("trusted-keys", f"is {shown(written)} (expected a list of files with public keys)")
        keys = [f"trusted-keys[{number}]" for number in range(len(written))]
        return tuple(self._existing_file(key, self._text(key, name)) for key, name in zip(keys, written, strict=True))

    def _credential_files(self) -> Treatment:
        written = self._optional_text("credential-files")
        if written is None:
            return Treatment.WARN
        values = [treatment.value for treatment in Treatment]
        if written not in values:
            raise self._error("credential-files", f"is {shown(written)}", hint=f"write {', '.join(values)}")
        return Treatment(written)

    def _ca_bundle(self) -> Path | None:
        written = self._optional_text("ca-bundle")
        return None if written is None else self._existing_file("ca-bundle", written)

    def _existing_file(self, key: str, written: str) -> Path:
        path = self._file.parent / Path(written).expanduser()
        if not path.is_file():
            raise self._error(key, f"is {shown(written)}: there is no such file")
        return path
