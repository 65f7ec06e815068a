"""The question put to `uv pip compile`, as files and arguments: one project that requires what all pip steps require.

`uv pip compile` is asked, not `uv lock`: it resolves for the one interpreter it is given and knows which wheels that
can install, where `uv lock` resolves for every platform and may take one whose wheels want a newer glibc. Pins are
`[tool.uv.sources]` with explicit indexes, preferences an earlier pylock.toml (PEP 751).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from klock.packages.index_mirrors import IndexMirrors
from klock.packages.indexes import Index, IndexSettings
from klock.packages.wheels import WheelMetadata
from klock.toml_text import entries, tables
from klock.values import dataclass
from klock.workshop.handover import hand_in

__all__ = ["PROJECT", "UvProject"]

PROJECT: Final = "this-image"
"""The name uv's explanations use for the whole: "because this-image depends on torch>=99"."""


_SETTINGS: Final = "uv.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class UvProject:
    """What to resolve. `dependencies`, `constraints` and `overrides` are PEP 508; `direct` are nameless URL lines.

    `pins` tie projects to indexes, `preferences` are versions to keep where they fit, `stubs` a folder (as seen in the
    environment) of wheels to choose from too. `fallbacks` are asked for what no shared index has. uv is told of the
    mirrors of all these indexes instead. Names are normalised; `:all:` is allowed where pip has it. `elsewhere`, a
    Python version and a platform as uv has it, is for a Python that uv cannot ask. Without `builds` a version counts
    only if it has a wheel. `refresh` names projects whose pages are to be asked for anew, `:all:` for all: uv's own
    option would have it ask the Python anew, too, which on this machine it may not start. `metadata` counts instead of
    what an index or a build says of these versions. `steering` are more settings, as a uv.toml has them; arguments and
    variables count before those. uv calls the files' folder `folder`.
    """

    dependencies: tuple[str, ...]
    direct: tuple[str, ...]
    constraints: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    settings: IndexSettings
    pins: Mapping[str, Index]
    preferences: Mapping[str, str]
    prereleases: tuple[str, ...] = ()
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()
    no_build_isolation: tuple[str, ...] = ()
    fallbacks: tuple[Index, ...] = ()
    stubs: str | None = None
    mirrors: IndexMirrors = field(default_factory=IndexMirrors)
    exclude_newer: str | None = None
    offline: bool = False
    elsewhere: tuple[str, str] | None = None
    builds: bool = True
    refresh: tuple[str, ...] = ()
    metadata: tuple[WheelMetadata, ...] = ()
    steering: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""

    def write(self, folder: Path) -> None:
        """Writes pyproject.toml, uv.toml, the files of requirements, and pylock.toml (the preferences)."""
        about = {"name": PROJECT, "version": "0", "dependencies": self.dependencies}
        indexes = [
            {"name": name, "url": self._url(index), "explicit": True, **({"format": "flat"} if index.flat else {})}
            for index, name in self._names(self._pinned())
        ]
        sources = {project: {"index": self._name_of(index)} for project, index in sorted(self.pins.items())}
        packages = [{"name": name, "version": version} for name, version in sorted(self.preferences.items())]
        preferred = {"lock-version": "1.0", "created-by": "klock", **({} if packages else {"packages": packages})}
        own = self.steering.get("dependency-metadata", ())
        known = {
            (str(table.get("name")), table.get("version", each.version)) for table in own for each in self.metadata
        }
        learnt = [each for each in self.metadata if (each.name, each.version) not in known]
        files = {
            "pyproject.toml": f"[project]\n{entries(about)}{tables('tool.uv.index', indexes)}"
            f"\n[tool.uv.sources]\n{entries(sources)}",
            _SETTINGS: entries({key: value for key, value in self.steering.items() if key != "dependency-metadata"})
            + tables("dependency-metadata", [*own, *map(_metadata_table, learnt)]),
            "direct.in": "".join(f"{line}\n" for line in self.direct),
            "constraints.txt": "".join(f"{line}\n" for line in self.constraints),
            "overrides.txt": "".join(f"{line}\n" for line in self.overrides),
            "pylock.toml": entries(preferred) + tables("packages", packages),
        }
        for name, text in files.items():
            hand_in(folder, name, text.encode())

    def arguments(self, *, python: str) -> list[str]:
        """The command that leaves its answer in pylock.toml."""
        return [*self._shared_arguments(python), "--format", "pylock.toml", "--output-file", "pylock.toml"]

    def annotation_arguments(self, *, python: str) -> list[str]:
        """The same question, answered in the one format that says which index each project is from."""
        return [*self._shared_arguments(python), "--emit-index-annotation", "--no-strip-markers"]

    @property
    def variables(self) -> dict[str, str]:
        """The links and the settings, for uv's environment."""
        links = [self._url(index) for index in self.settings.find_links]
        if self.stubs:
            links.append(self.stubs)
        settings = {"UV_CONFIG_FILE": f"{self.folder}/{_SETTINGS}"} if self.metadata or self.steering else {}
        return {**settings, **({"UV_FIND_LINKS": ",".join(links)} if links else {})}

    def named_indexes(self) -> list[tuple[str, str]]:
        """The URL of each index with the name that uv knows it by."""
        return [(self._url(index), name) for index, name in self._names([*self._pinned(), *self._shared()])]

    def _shared_arguments(self, python: str) -> list[str]:
        arguments = ["pip", "compile", "pyproject.toml", "--no-header", "--python", python]
        if self.elsewhere is not None:
            version, platform = self.elsewhere
            arguments += ["--python-version", version, "--python-platform", platform]
        if not self.builds:
            arguments.append("--no-build")
        if self.constraints:
            arguments += ["--constraints", "constraints.txt"]
        if self.overrides:
            arguments += ["--overrides", "overrides.txt"]
        if self.direct:
            arguments.append("direct.in")
        *first, last = [f"{self._name_of(index)}={self._url(index)}" for index in self._shared()] or [""]
        for index in first:
            arguments += ["--index", index]
        arguments += ["--default-index", last] if last else ["--no-index"]  # uv asks its default index last
        if self.settings.pre:
            arguments += ["--prerelease", "allow"]
        for flag, names in (
            ("--no-binary", self.no_binary),
            ("--only-binary", self.only_binary),
            ("--no-build-isolation-package", self.no_build_isolation),
        ):
            for name in names:
                arguments += [flag, name]
        for name in self.prereleases:
            arguments += ["--prerelease-package", f"{name}=allow"]
        if self.exclude_newer:
            arguments += ["--exclude-newer", self.exclude_newer]
        if self.offline:
            arguments.append("--offline")
        return arguments

    def _url(self, index: Index) -> str:
        return self.mirrors.towards(index.url)

    def _pinned(self) -> list[Index]:
        return sorted(set(self.pins.values()), key=lambda index: (index.url, index.flat))

    def _shared(self) -> list[Index]:
        default = [self.settings.default] if self.settings.default else []
        return list(dict.fromkeys([*self.settings.extras, *default, *self.fallbacks]))

    def _name_of(self, index: Index) -> str:
        return dict(self._names([*self._pinned(), *self._shared()]))[index]

    def _names(self, indexes: Sequence[Index]) -> list[tuple[Index, str]]:
        """uv knows an index, and finds credentials for it, by a name. Each of ours is numbered."""
        everything = list(dict.fromkeys([*self._pinned(), *self._shared()]))
        return [(index, f"k{everything.index(index)}") for index in dict.fromkeys(indexes)]


def _metadata_table(metadata: WheelMetadata) -> dict[str, Any]:
    return {
        "name": metadata.name,
        "version": metadata.version,
        "requires-dist": metadata.requires,
        **({"requires-python": metadata.python} if metadata.python else {}),
        "provides-extra": metadata.extras,
    }
