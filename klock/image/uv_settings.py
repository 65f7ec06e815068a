"""uv's settings for a project, as `uv pip` finds them: `[tool.uv]`, with `[tool.uv.pip]` over it, or a uv.toml.

A uv.toml counts instead of the `[tool.uv]` beside it. The nearest folder upwards that has settings counts; for a member
of a workspace the workspace's do. klock looks for none above the folder with .git, and reads none of this machine's
users.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from klock.documents import read_toml
from klock.errors import RequirementError
from klock.files.globs import git_regex
from klock.image.uv_setting_names import (
    CHANGES_NO_PACKAGE,
    CHOICES,
    DEPENDENCIES,
    FOLLOWED,
    OF_AN_INDEX,
    OF_ONE_PROJECT,
    STEERING_TABLES,
    STEERING_TEXTS,
    WITHOUT_EFFECT,
)
from klock.secrets.masking import mask
from klock.values import dataclass, field

__all__ = [
    "UvSettings",
    "find_uv_settings",
    "is_local",
    "list_of_texts",
    "named_indexes",
    "numbered_texts",
    "table_in",
    "uv_table_in",
]


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
        for key in STEERING_TEXTS:
            if (value := self.values.get(key)) is None:
                continue
            if not isinstance(value, str) or value not in CHOICES.get(key, (value,)):
                expected = " or ".join(CHOICES.get(key, ("a string",)))
                raise RequirementError(f"{self.place(key)} is {value!r} (expected {expected})")
            found[key] = value
        for key in STEERING_TABLES:
            if table := table_in(self.values, key, self.place(key)):
                found[key] = _words(table, self.place(key))
        place = self.place("dependency-metadata")
        if metadata := tables_of(self.values, "dependency-metadata", place):
            found["dependency-metadata"] = [_metadata(each, f"{place}[{n}]") for n, each in enumerate(metadata)]
        return found


def find_uv_settings(path: Path, document: Mapping[str, Any], name: str) -> UvSettings:
    """The settings for the project at `path`, its pyproject.toml, which `document` is and messages call `name`.

    Raises RequirementError.
    """
    found = _Found(path.parent, name)
    own = uv_table_in(document, name)
    shared, root = found.of_workspace(own)
    table, prefix = found.nearest(root, shared)
    projects = [(own, f"{name}: tool.uv.")]
    if root != path.parent:
        projects.append((shared, f"{found.name_of(root / 'pyproject.toml')}: tool.uv."))
    values, places = _joined_with_pip(table, prefix)
    for project, of_project in projects:
        for key in project if of_project != prefix else ():
            if key in DEPENDENCIES and project is shared:
                values[key] = [*_list(values, key, prefix), *_list(project, key, of_project)]
                places[key] = f"{of_project}{key}"
            elif key in FOLLOWED and key not in OF_ONE_PROJECT and not _is_for_sources_alone(key, project[key]):
                instead = prefix.removesuffix(": ").removesuffix(": tool.uv.")
                found.notes.append(f"{of_project}{key} has no effect: {instead} counts instead, as in uv")
    found.look_for_what_has_no_effect(values, places)
    indexes = [index for t, where in [(values, prefix), *projects] for index in tables_of(t, "index", f"{where}index")]
    found.look_at_indexes(indexes, prefix)
    sources = [table_in(project, "sources", f"{where}sources") for project, where in projects[::-1]]
    return UvSettings(
        values=values,
        places=places,
        sources={canonicalize_name(n): source for of in sources for n, source in of.items()},
        indexes=tuple(indexes),
        files=tuple(found.files),
        notes=tuple(found.notes),
    )


def named_indexes(document: Mapping[str, Any], name: str) -> dict[str, str]:
    """The URLs of the indexes that have names in a pyproject.toml or a uv.toml."""
    tool = document.get("tool")
    settings = document if name == "uv.toml" else tool.get("uv") if isinstance(tool, Mapping) else None
    listed = settings.get("index") if isinstance(settings, Mapping) else None
    tables = [index for index in listed if isinstance(index, Mapping)] if isinstance(listed, list) else []
    return {str(index["name"]): str(index["url"]) for index in tables if {"name", "url"} <= index.keys()}


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
                if _has(workspace, self.folder.relative_to(folder), self.name_of(folder / "pyproject.toml")):
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
        return uv_table_in(self._read(path), self.name_of(path))

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            return read_toml(path.read_bytes().decode("utf-8"))
        except (OSError, ValueError) as error:
            raise RequirementError(f"{self.name_of(path)} cannot be read: {error}") from error

    def look_for_what_has_no_effect(self, values: Mapping[str, Any], places: Mapping[str, str]) -> None:
        for key, value in values.items():
            if key in WITHOUT_EFFECT and value not in (False, [], {}, "disabled"):
                self.notes.append(f"{places[key]} has no effect: {WITHOUT_EFFECT[key]}")
            elif key == "required-version":
                self._compare_version(str(value), places[key])
            elif key not in (*WITHOUT_EFFECT, *FOLLOWED, *CHANGES_NO_PACKAGE):
                self.notes.append(f"{places[key]} has no effect: klock does not know this setting of uv")

    def look_at_indexes(self, indexes: Iterable[Mapping[str, Any]], prefix: str) -> None:
        for index in indexes:
            name = index.get("name") or mask(str(index.get("url")))
            for key in sorted(index.keys() - OF_AN_INDEX):
                self.notes.append(f"{prefix}index: {key} of {name} has no effect: klock does not follow it")

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


def _has(workspace: Mapping[str, Any], folder: Path, where: str) -> bool:
    """Whether a folder, from the workspace's, is a member of it by its patterns. `where` names its pyproject.toml."""

    def matches(key: str) -> bool:
        patterns = list_of_texts(workspace.get(key, []), f"{where}: tool.uv.workspace.{key}")
        expressions = (git_regex(os.fsencode(posixpath.normpath(pattern))) for pattern in patterns)
        return any(re.fullmatch(each, os.fsencode(folder.as_posix())) for each in expressions)

    return matches("members") and not matches("exclude")


def _joined_with_pip(table: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, str]]:
    """uv has what `pip` says count before the rest; its lists come before theirs."""
    values = {key: value for key, value in table.items() if key != "pip"}
    places = {key: f"{prefix}{key}" for key in values}
    for key, value in table_in(table, "pip", f"{prefix}pip").items():
        own = f"pip.{key}" if f"pip.{key}" in (*FOLLOWED, *WITHOUT_EFFECT, *CHANGES_NO_PACKAGE) else key
        before = values.get(own)
        if isinstance(value, list) and isinstance(before, list):
            values[own] = [*value, *before]
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            values[own] = {**before, **value}
        else:
            values[own] = value
        places[own] = f"{prefix}pip.{key}"
    return values, places


def _words(table: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What a setting says of some projects. Raises RequirementError."""
    for name, value in table.items():
        if not isinstance(value, str | bool):
            raise RequirementError(f"{place}: {name} is {value!r} (expected a string)")
    return dict(table)


def _metadata(table: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What counts for a package's metadata, under its normalised name. Raises RequirementError."""
    name = table.get("name")
    if not isinstance(name, str) or not isinstance(table.get("version", ""), str):
        raise RequirementError(f"{place} needs a name, and a version that is a string, if any")
    for key, value in table.items():
        if not isinstance(value, str) or key == "requires-dist":
            list_of_texts(value, f"{place}.{key}")
    return {**table, "name": canonicalize_name(name)}


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


def uv_table_in(document: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """`[tool.uv]` of a pyproject.toml."""
    return table_in(table_in(document, "tool", where), "uv", f"{where}: tool")


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
