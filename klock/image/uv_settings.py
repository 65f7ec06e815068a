"""uv's settings for a project, as `uv pip` finds them: `[tool.uv]`, with `[tool.uv.pip]` over it, or a uv.toml.

A uv.toml counts instead of the `[tool.uv]` beside it. The nearest folder upwards that has settings is taken, but for a
member of a workspace that of the workspace. Nothing is looked for above the folder with .git, and nothing in the
settings of this machine's users.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from klock.documents import read_toml
from klock.errors import RequirementError
from klock.values import dataclass, field

__all__ = ["UvSettings", "find_uv_settings", "is_local", "list_of_texts", "numbered_texts", "table_in"]

_CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "index-strategy": ("first-index", "unsafe-first-match", "unsafe-best-match"),
    "resolution": ("highest", "lowest", "lowest-direct"),
    "prerelease": ("disallow", "allow", "if-necessary", "explicit", "if-necessary-or-explicit"),
}
_STEERING_TEXTS: Final = ("exclude-newer", *_CHOICES)
_STEERING_TABLES: Final = ("exclude-newer-package", "prerelease-package")
_DEPENDENCIES: Final = (
    *("build-constraint-dependencies", "constraint-dependencies", "exclude-dependencies", "override-dependencies"),
    *("dependency-metadata", "environments"),
)
"""What belongs to a project. uv reads it from pyproject.toml when it locks, and from uv.toml for `uv pip`."""

_BUILDS: Final = "klock builds packages without it; lock with uv and install a wheel, or build in a run_bash step"
_UPGRADES: Final = "use `klock lock --upgrade`"
_PYTHON: Final = "klock resolves for the environment's own Python"
_WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("config-settings", "config-settings-package"), _BUILDS),
    **dict.fromkeys(("extra-build-dependencies", "extra-build-variables"), _BUILDS),
    **dict.fromkeys(("upgrade", "upgrade-package"), _UPGRADES),
    **dict.fromkeys(("pip.python-version", "pip.python-platform"), _PYTHON),
    "allow-insecure-host": "klock checks certificates; name yours in ca-bundle of [tool.klock]",
    "dependency-groups": "klock does not compare the groups' requires-python",
    "keyring-provider": "set UV_KEYRING_PROVIDER in your shell",
    "pip.no-deps": "klock installs what packages require",
    "torch-backend": "name the index in pytorch-indexes of [tool.klock], or set UV_TORCH_BACKEND in the image",
    **dict.fromkeys(("http-proxy", "https-proxy", "no-proxy"), "set HTTP_PROXY and the like in your shell"),
}
"""Settings that may change what uv installs, or whether it can, and that klock does not follow."""

_FOLLOWED: Final = (
    *("index", "index-url", "extra-index-url", "no-index", "find-links", "sources", "no-sources", "no-sources-package"),
    *("no-build", "no-build-package", "no-binary", "no-binary-package", "pip.only-binary", "dev-dependencies"),
    *("no-build-isolation", "no-build-isolation-package", "required-version", "pip", "workspace"),
    *("pip.extra", "pip.all-extras", "pip.no-extra", "pip.group"),
    *(*_STEERING_TEXTS, *_STEERING_TABLES, *_DEPENDENCIES),
)
_OF_ONE_PROJECT: Final = ("dev-dependencies", "required-version", "sources", "workspace")
_CHANGES_NO_PACKAGE: Final = (
    *("system-certs", "native-tls", "offline", "no-cache", "cache-dir", "preview", "preview-features", "cache-keys"),
    *("python-preference", "python-downloads", "concurrent-downloads", "concurrent-builds", "concurrent-installs"),
    *("fork-strategy", "required-environments", "minimum-libc-version", "conflicts", "link-mode", "compile-bytecode"),
    *("reinstall", "reinstall-package", "python-install-mirror", "pypy-install-mirror", "graalpy-install-mirror"),
    *("pyodide-install-mirror", "python-downloads-json-url", "publish-url", "trusted-publishing", "check-url"),
    *("add-bounds", "audit", "managed", "package", "default-groups", "build-backend", "require-build-hashes"),
    *(f"pip.{name}" for name in ("python", "system", "break-system-packages", "target", "prefix", "strict")),
    *(f"pip.{name}" for name in ("allow-empty-requirements", "output-file", "no-strip-extras", "no-strip-markers")),
    *(f"pip.{name}" for name in ("no-annotate", "no-header", "custom-compile-command", "generate-hashes", "universal")),
    *(f"pip.{name}" for name in ("no-emit-package", "emit-index-url", "emit-find-links", "emit-build-options")),
    *(f"pip.{name}" for name in ("emit-marker-expression", "emit-index-annotation", "annotation-style")),
    *("pip.require-hashes", "pip.verify-hashes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UvSettings:
    """The settings by uv's names for them, those of `pip` joined with the others; what only `pip` has is `pip.NAME`.

    `places` says in messages where each is from: `pyproject.toml: tool.uv.resolution`, `uv.toml: pip.resolution`.
    `indexes` are the tables of all indexes, also of those that sources alone name. `files` are those that were read
    besides the project's own pyproject.toml; `notes` are what the user should know of settings without effect.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Any] = field(default_factory=dict)
    indexes: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def place(self, key: str) -> str:
        return self.places.get(key, f"tool.uv.{key}")

    def texts(self, key: str) -> list[str]:
        return list_of_texts(self.values.get(key, []), self.place(key))

    def packages(self, key: str) -> tuple[str, ...]:
        """The names that `no-build` or the like is for, `:all:` for all: `key-package` has those of some."""
        if self.values.get(key) is True:
            return (":all:",)
        named = [] if isinstance(self.values.get(key, []), bool) else self.texts(key)
        return tuple(n if n.startswith(":") else canonicalize_name(n) for n in (*named, *self.texts(f"{key}-package")))

    def is_on(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise RequirementError(f"{self.place(key)} is not true or false")
        return value

    @property
    def steering(self) -> dict[str, Any]:
        """What decides which versions are chosen, as a uv.toml has it. Raises RequirementError."""
        found: dict[str, Any] = {}
        for key in _STEERING_TEXTS:
            if (value := self.values.get(key)) is None:
                continue
            if not isinstance(value, str) or value not in _CHOICES.get(key, (value,)):
                expected = " or ".join(_CHOICES.get(key, ("a string",)))
                raise RequirementError(f"{self.place(key)} is {value!r} (expected {expected})")
            found[key] = value
        found |= {
            key: dict(table) for key in _STEERING_TABLES if (table := table_in(self.values, key, self.place(key)))
        }
        if metadata := tables_of(self.values, "dependency-metadata", self.place("dependency-metadata")):
            found["dependency-metadata"] = [*metadata]
        return found


def find_uv_settings(path: Path, document: Mapping[str, Any], name: str) -> UvSettings:
    """The settings for the project at `path`, its pyproject.toml, which `document` is and messages call `name`.

    Raises RequirementError.
    """
    found = _Found(path.parent, name)
    own = table_in(table_in(document, "tool", name), "uv", f"{name}: tool")
    shared, root = found.of_workspace(own)
    table, prefix = found.nearest(root, shared)
    projects = [(own, f"{name}: tool.uv.")]
    if root != path.parent:
        projects.append((shared, f"{found.name_of(root / 'pyproject.toml')}: tool.uv."))
    values, places = _joined_with_pip(table, prefix)
    for project, of_project in projects:
        for key in project if of_project != prefix else ():
            if key in _DEPENDENCIES and project is shared:
                values[key] = [*_list(values, key, prefix), *_list(project, key, of_project)]
                places[key] = f"{of_project}{key}"
            elif key in _FOLLOWED and key not in _OF_ONE_PROJECT and not _is_for_sources_alone(key, project[key]):
                instead = prefix.removesuffix(": ").removesuffix(": tool.uv.")
                found.notes.append(f"{of_project}{key} has no effect: {instead} counts instead, as in uv")
    found.look_for_what_has_no_effect(values, places)
    indexes = [index for t, where in [(values, prefix), *projects] for index in tables_of(t, "index", f"{where}index")]
    sources = [table_in(project, "sources", f"{where}sources") for project, where in projects[::-1]]
    return UvSettings(
        values=values,
        places=places,
        sources={canonicalize_name(n): source for of in sources for n, source in of.items()},
        indexes=tuple(indexes),
        files=tuple(found.files),
        notes=tuple(found.notes),
    )


class _Found:
    """Looks for files upwards from the project's folder, and keeps what it has read."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._name = name
        self.files: list[Path] = []
        self.notes: list[str] = []

    def name_of(self, path: Path) -> str:
        """What messages call a file, from the name of the project's own."""
        return os.path.normpath(Path(self._name).parent / os.path.relpath(path, self.folder))

    def of_workspace(self, own: Mapping[str, Any]) -> tuple[Mapping[str, Any], Path]:
        """`[tool.uv]` of the workspace that the project is a member of, with its folder; else the project's own."""
        if "workspace" in own:
            return own, self.folder
        for folder in _upwards(self.folder)[1:]:
            table = self._of_pyproject(folder)
            workspace = table.get("workspace")
            if isinstance(workspace, Mapping):
                if _has(folder, workspace, self.folder):
                    self.files.append(folder / "pyproject.toml")
                    return table, folder
                break
        return own, self.folder

    def nearest(self, start: Path, table: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        """The settings that count for a project or workspace with this `[tool.uv]`, with how messages begin."""
        for folder in _upwards(start):
            beside = folder / "uv.toml"
            if beside.is_file():
                self.files.append(beside)
                return self._read(beside), f"{self.name_of(beside)}: "
            pyproject = folder / "pyproject.toml"
            if folder != start and (table := self._of_pyproject(folder)):
                self.files.append(pyproject)
            if table:
                return table, f"{self.name_of(pyproject)}: tool.uv."
        return {}, f"{self.name_of(start / 'pyproject.toml')}: tool.uv."

    def _of_pyproject(self, folder: Path) -> Mapping[str, Any]:
        path = folder / "pyproject.toml"
        if not path.is_file():
            return {}
        name = self.name_of(path)
        return table_in(table_in(self._read(path), "tool", name), "uv", f"{name}: tool")

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            return read_toml(path.read_bytes().decode("utf-8"))
        except (OSError, ValueError) as error:
            raise RequirementError(f"{self.name_of(path)} cannot be read: {error}") from error

    def look_for_what_has_no_effect(self, values: Mapping[str, Any], places: Mapping[str, str]) -> None:
        for key, value in values.items():
            if key in _WITHOUT_EFFECT and value not in (False, [], {}, "disabled"):
                self.notes.append(f"{places[key]} has no effect: {_WITHOUT_EFFECT[key]}")
            elif key == "required-version":
                self._compare_version(str(value), places[key])
            elif key not in (*_WITHOUT_EFFECT, *_FOLLOWED, *_CHANGES_NO_PACKAGE):
                self.notes.append(f"{places[key]} has no effect: klock does not know this setting of uv")

    def _compare_version(self, wanted: str, place: str) -> None:
        import importlib.metadata

        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        version = importlib.metadata.version("uv")
        bare = wanted.strip()
        try:
            if SpecifierSet(f"=={bare}" if bare[:1].isdigit() else bare).contains(version, prereleases=True):
                return
        except InvalidSpecifier:
            pass
        self.notes.append(f"{place} has no effect: klock resolves with its own uv {version}, not {wanted}")


def _upwards(folder: Path) -> list[Path]:
    """The folder and those above it, up to the one with .git."""
    found = []
    for each in (folder, *folder.parents):
        found.append(each)
        if (each / ".git").exists():
            break
    return found


def _has(root: Path, workspace: Mapping[str, Any], folder: Path) -> bool:
    """Whether the folder is a member of the workspace, by its patterns."""

    def matches(key: str) -> bool:
        patterns = list_of_texts(workspace.get(key, []), f"tool.uv.workspace.{key}")
        return any(folder in root.glob(pattern) for pattern in patterns if pattern and not pattern.startswith("/"))

    return matches("members") and not matches("exclude")


def _joined_with_pip(table: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, str]]:
    """uv has what `pip` says count before the rest; its lists come before theirs."""
    values = {key: value for key, value in table.items() if key != "pip"}
    places = {key: f"{prefix}{key}" for key in values}
    for key, value in table_in(table, "pip", f"{prefix}pip").items():
        own = f"pip.{key}" if f"pip.{key}" in (*_FOLLOWED, *_WITHOUT_EFFECT, *_CHANGES_NO_PACKAGE) else key
        before = values.get(own)
        if isinstance(value, list) and isinstance(before, list):
            values[own] = [*value, *before]
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            values[own] = {**before, **value}
        else:
            values[own] = value
        places[own] = f"{prefix}pip.{key}"
    return values, places


def _list(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise RequirementError(f"{where}{key} is not a list")
    return value


def _is_for_sources_alone(key: str, value: object) -> bool:
    return (
        key == "index" and isinstance(value, list) and all(isinstance(i, Mapping) and i.get("explicit") for i in value)
    )


def is_local(url: str) -> bool:
    """Whether a place for packages is a folder or file of this machine."""
    return "://" not in url or url.lower().startswith("file:")


def table_in(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, Mapping):
        raise RequirementError(f"{where}: {key} is not a table")
    return table


def tables_of(document: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    listed = document.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise RequirementError(f"{where} is not a list of tables")
    return listed


def list_of_texts(value: object, where: str) -> list[str]:
    return [text for _, text in numbered_texts(value, where)]


def numbered_texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    """The texts of a list, each with where it is."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise RequirementError(f"{where} is not a list of strings")
    yield from ((f"{where}[{number}]", str(item)) for number, item in enumerate(value))
