"""What a pyproject.toml asks for: its dependencies, extras (PEP 621) and groups (PEP 735), from uv's sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from klock.errors import RequirementError
from klock.image.pip_options import PipOptions
from klock.image.requirements import PackageRequirement, ParsedRequirement, ProjectParts, UrlRequirement
from klock.secrets.userinfo import PrivateUrl

__all__ = ["requirements_of_project"]

_HOW_TO_COPY: Final = 'copy it with rsync() and install it from there: pip_install(["/PATH"])'


def requirements_of_project(
    document: Mapping[str, Any], parts: ProjectParts, where: str
) -> Iterator[ParsedRequirement]:
    """The dependencies of the project (unless `parts` has groups alone), of its extras and its groups, each once.

    The project itself is none of them. Raises RequirementError.
    """
    if parts.no_dev or parts.package:
        raise RequirementError(
            f"{where}: --no-dev and --package are for uv.lock", hint="name what you want: --group NAME, --extra NAME"
        )
    sources = _Sources(document, where)
    texts = [*_of_project(document, parts, where), *_of_groups(document, parts, where)]
    for place, text in dict.fromkeys(texts):
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise RequirementError(f"{place}: not a requirement: {text!r}: {str(error).splitlines()[0]}") from error
        yield from sources.of(requirement, place)


def _of_project(document: Mapping[str, Any], parts: ProjectParts, where: str) -> Iterator[tuple[str, str]]:
    project = _table(document, "project", where)
    dynamic = set(project.get("dynamic", ()))
    extras = {canonicalize_name(n): t for n, t in _table(project, "optional-dependencies", f"{where}: project").items()}
    wanted = [canonicalize_name(extra) for extra in parts.extras] + (list(extras) if parts.all_extras else [])
    if (not parts.groups_only and "dependencies" in dynamic) or (wanted and "optional-dependencies" in dynamic):
        raise RequirementError(
            f"{where}: the project computes its dependencies when it is built (dynamic)",
            hint=_HOW_TO_COPY,
        )
    if not parts.groups_only:
        yield from _texts(project.get("dependencies", []), f"{where}: project.dependencies")
    own, seen = canonicalize_name(str(project.get("name", ""))), set()
    while wanted:
        extra = wanted.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        place = f"{where}: project.optional-dependencies.{extra}"
        if extra not in extras:
            there = ", ".join(sorted(extras)) or "none"
            raise RequirementError(f"{where}: there is no extra {extra!r}", hint=f"it has: {there}")
        for where_it_is, text in _texts(extras[extra], place):
            name = text.partition("[")[0].strip()
            if "[" in text and canonicalize_name(name) == own:  # project[a,b] in an extra means these extras
                wanted += [canonicalize_name(each) for each in Requirement(text).extras]
            else:
                yield where_it_is, text


def _of_groups(document: Mapping[str, Any], parts: ProjectParts, where: str) -> Iterator[tuple[str, str]]:
    from packaging.dependency_groups import resolve_dependency_groups

    groups = _table(document, "dependency-groups", where)
    for group in [*parts.groups, *(groups if parts.all_groups else ())]:
        place = f"{where}: dependency-groups.{group}"
        try:
            yield from ((place, text) for text in resolve_dependency_groups(groups, group))
        except (LookupError, ValueError, TypeError, ExceptionGroup) as error:
            there = ", ".join(sorted(groups)) or "none"
            raise RequirementError(f"{place} cannot be read: {_reason(error)}", hint=f"it has: {there}") from error


def _reason(error: BaseException) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error).strip("'\"")


class _Sources:
    """`[tool.uv.sources]` and `[[tool.uv.index]]`: where uv would take each project from."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        uv = _table(_table(document, "tool", where), "uv", f"{where}: tool")
        if uv.get("override-dependencies"):
            raise RequirementError(
                f"{where}: tool.uv.override-dependencies change what packages require",
                hint="lock with uv, and take over its answer: uv_sync() or -r uv.lock",
            )
        self._where = where
        sources = _table(uv, "sources", f"{where}: tool.uv")
        self._sources = {canonicalize_name(name): source for name, source in sources.items()}
        indexes = [index for index in uv.get("index", ()) if isinstance(index, Mapping) and "url" in index]
        self._indexes = {str(index.get("name")): PrivateUrl.parse(str(index["url"])) for index in indexes}
        shared = [index for index in indexes if not index.get("explicit")]
        default = [PrivateUrl.parse(str(index["url"])) for index in shared if index.get("default")]
        extras = [PrivateUrl.parse(str(index["url"])) for index in shared if not index.get("default")]
        self._options = PipOptions(index_url=default[0] if default else None, extra_index_urls=tuple(extras))

    def of(self, requirement: Requirement, where: str) -> Iterator[ParsedRequirement]:
        source = self._sources.get(canonicalize_name(requirement.name))
        if source is None:
            yield self._from_index(requirement, self._options, where)
            return
        for each in source if isinstance(source, Sequence) else [source]:
            yield self._from(each, requirement, where)

    def _from(self, source: Any, requirement: Requirement, where: str) -> ParsedRequirement:
        place = f"{self._where}: tool.uv.sources.{requirement.name}"
        if not isinstance(source, Mapping):
            raise RequirementError(f"{place} is not a table")
        marker = Marker(str(source["marker"])) if "marker" in source else None
        joined = Requirement(str(requirement))
        if marker is not None:
            joined.marker = marker if joined.marker is None else joined.marker & marker
        if "index" in source:
            index = self._indexes.get(str(source["index"]))
            if index is None:
                raise RequirementError(f"{place}: tool.uv.index has no {source['index']!r}")
            return self._from_index(joined, PipOptions(index_url=index), where)
        if "git" in source:
            revision = source.get("rev") or source.get("tag") or source.get("branch")
            url = f"git+{source['git']}" + (f"@{revision}" if revision else "")
        elif "url" in source:
            url = str(source["url"])
        else:
            raise RequirementError(f"{place} is a folder of this machine", hint=_HOW_TO_COPY)
        if "subdirectory" in source:
            url += f"#subdirectory={source['subdirectory']}"
        extras = tuple(sorted(canonicalize_name(extra) for extra in requirement.extras))
        name = canonicalize_name(requirement.name)
        return UrlRequirement(url=PrivateUrl.parse(url), name=name, extras=extras, marker=joined.marker, where=where)

    def _from_index(self, requirement: Requirement, options: PipOptions, where: str) -> ParsedRequirement:
        if requirement.url is not None:
            name, extras = canonicalize_name(requirement.name), tuple(sorted(requirement.extras))
            url = PrivateUrl.parse(requirement.url)
            return UrlRequirement(url=url, name=name, extras=extras, marker=requirement.marker, where=where)
        return PackageRequirement(requirement=requirement, options=options, where=where)


def _table(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, Mapping):
        raise RequirementError(f"{where}: {key} is not a table")
    return table


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise RequirementError(f"{where} is not a list of strings")
    yield from ((f"{where}[{number}]", str(item)) for number, item in enumerate(value))
