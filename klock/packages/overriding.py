"""What an image has uv take in place of what packages say that they require.

As uv has it: an override counts instead of everything that anybody requires of its project, the image's own lines and
their markers among it; only the extra that a requirement is for stays. An excluded project is required by nobody.
Metadata of one's own counts instead of a package's. klock has to read dependencies in the same way: it works out from
them which step brings a package.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from klock.errors import RequirementError
from klock.image.markers import only_where
from klock.image.requirement_files import logical_lines
from klock.image.requirement_lines import parse_line
from klock.packages.request import PipRequest, ScopedRequirement, parse_requirement
from klock.values import dataclass

__all__ = ["Overriding", "lines_of_files"]

_EXTRA: Final = re.compile(r"""\bextra\s*==\s*(['"])(?P<name>[^'"]+)\1|(['"])(?P<turned>[^'"]+)\3\s*==\s*extra\b""")
_INCLUDES: Final = re.compile(r"-[rc]|--(requirement|constraint)s?\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overriding:
    """`overrides` by project, each in the order written; `metadata` are the requirements by project and version, None
    for every version."""

    overrides: Mapping[str, Sequence[tuple[ScopedRequirement, Requirement]]] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    metadata: Mapping[tuple[str, str | None], Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, requests: Sequence[PipRequest], read: Callable[[str], bytes | None]) -> Overriding:
        """What `requests` say, all together, with the files that UV_OVERRIDE names, which `read` reads.

        Raises RequirementError.
        """
        overrides: dict[str, list[tuple[ScopedRequirement, Requirement]]] = {}
        metadata: dict[tuple[str, str | None], Sequence[str]] = {}
        steering = [each for request in requests for each in request.steering]
        lines = [line for each in steering for line in each.overrides]
        lines += lines_of_files(requests, "UV_OVERRIDE", read)
        for line in dict.fromkeys(lines):
            if (requirement := parse_requirement(line)) is not None:
                overrides.setdefault(canonicalize_name(requirement.name), []).append((line, requirement))
        for table in (table for each in steering for table in each.settings.get("dependency-metadata", ())):
            key = canonicalize_name(str(table.get("name"))), table.get("version")
            metadata[key] = [str(text) for text in table.get("requires-dist", ())]
        excluded = frozenset(name for each in steering for name in each.excluded)
        return cls(overrides=overrides, excluded=excluded, metadata=metadata)

    def of_line(self, line: ScopedRequirement, requirement: Requirement | None) -> Iterator[ScopedRequirement]:
        """What counts instead of a line of the image, which may be the line itself."""
        name = canonicalize_name(requirement.name) if requirement is not None else ""
        if name not in self.excluded:
            yield from (override for override, _ in self.overrides.get(name, ((line, requirement),)))

    def requires(self, name: str, version: str | None, texts: Sequence[str]) -> Sequence[str]:
        """What a package requires, which says `texts` of itself."""
        texts = self.metadata.get((name, version), self.metadata.get((name, None), texts))
        if not self.overrides and not self.excluded:
            return texts
        return tuple(changed for text in texts for changed in self._of_text(text))

    def _of_text(self, text: str) -> Iterator[str]:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield text
            return
        name = canonicalize_name(requirement.name)
        if name in self.excluded:
            return
        if name not in self.overrides:
            yield text
            return
        for _, override in self.overrides[name]:
            yield _for_extras_of(requirement, override)


def _for_extras_of(requirement: Requirement, override: Requirement) -> str:
    """The override where the extra is wanted that the requirement is for."""
    names = dict.fromkeys(match["name"] or match["turned"] for match in _EXTRA.finditer(str(requirement.marker or "")))
    if not names:
        return str(override)
    return str(only_where(override, Marker(" or ".join(f"extra == '{name}'" for name in names))))


def lines_of_files(
    requests: Sequence[PipRequest], variable: str, read: Callable[[str], bytes | None]
) -> list[ScopedRequirement]:
    """The requirements in the files of the environment that a variable names, each text once, with those of the files
    that they include. One that is named and not there has none: what reads it says so. Raises RequirementError."""
    named = [path for request in requests for path in request.environment.get(variable, "").split()]
    paths = list(dict.fromkeys(path.removeprefix("file://") for path in named))
    found: dict[str, ScopedRequirement] = {}
    included_at: dict[str, str] = {}
    for path in paths:
        if (content := read(path)) is None and path in included_at:
            raise RequirementError(
                f"{included_at[path]}: {path} is not in the environment",
                hint=f"correct {variable}, or set it to nothing",
            )
        for number, text in logical_lines(content or b"", path):
            origin = f"{path}:{number}"
            if text.startswith("-") and not _INCLUDES.match(text):
                continue
            line = parse_line(text, origin, several=False)
            for requirement in map(ScopedRequirement.of, line.requirements):
                found.setdefault(requirement.text, requirement)
            for more in (_included(file.path, path) for file in line.files):
                if more not in paths:
                    included_at[more] = origin
                    paths.append(more)
    return list(found.values())


def _included(path: str, above: str) -> str:
    """The path, or the URL, that a file at `above` calls `path`."""
    plain = path.removeprefix("file://")
    return plain if "://" in plain else posixpath.normpath(posixpath.join(posixpath.dirname(above), plain))
