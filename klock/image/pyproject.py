"""What a pyproject.toml asks for: dependencies, extras (PEP 621) and groups (PEP 735), from the sources and indexes and
within the constraints of its settings for uv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from klock.errors import RequirementError
from klock.image.negation import negated
from klock.image.pip_options import PipOptions
from klock.image.requirements import PackageRequirement, ParsedRequirement, ProjectParts, UrlRequirement
from klock.patterns import regex
from klock.secrets.userinfo import PrivateUrl
from klock.values import replace

__all__ = ["constraints_of_project", "requirements_of_project"]

_HARMLESS: Final = {"index-strategy": "first-index", "resolution": "highest", "prerelease": "if-necessary-or-explicit"}
_OTHER_ANSWERS: Final = (
    *("dependency-metadata", "exclude-dependencies", "exclude-newer", "exclude-newer-package", "index-strategy"),
    *("override-dependencies", "prerelease", "resolution"),
)
"""Settings by which uv chooses other packages, and which klock does not follow, except for a value in `_HARMLESS`."""
_NAME: Final = regex(r"\s*[A-Za-z0-9][A-Za-z0-9._-]*")
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
    of_groups, own = list(_of_groups(document, parts, where)), _own_name(document, where)
    itself = [_requirement(text, place) for place, text, _ in of_groups if _name_in(text) == own]
    if itself:  # the group wants all that the project requires
        extras = sorted({extra for requirement in itself for extra in requirement.extras})
        parts = replace(parts, extras=(*parts.extras, *extras), groups_only=False)
    texts = [*_of_project(document, parts, where), *(each for each in of_groups if _name_in(each[1]) != own)]
    for place, text, part in dict.fromkeys(texts):
        yield from sources.of(_requirement(text, place), place, part)


def constraints_of_project(document: Mapping[str, Any], where: str) -> Iterator[PackageRequirement]:
    """The `constraint-dependencies` for uv in this project. Raises RequirementError."""
    uv = _settings_of_uv(document, where)
    for place, text in _texts(uv.get("constraint-dependencies", []), f"{where}: tool.uv.constraint-dependencies"):
        yield PackageRequirement(requirement=_requirement(text, place), where=place)


def _requirement(text: str, place: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise RequirementError(f"{place}: not a requirement: {text!r}: {str(error).splitlines()[0]}") from error


_Part: TypeAlias = "tuple[str, str] | None"
"""The extra or the group that a requirement is of: `("extra", name)`, `("group", name)`."""


def _of_project(document: Mapping[str, Any], parts: ProjectParts, where: str) -> Iterator[tuple[str, str, _Part]]:
    if "project" not in document and not parts.groups:
        raise RequirementError(f"{where}: it has no [project], which lists what it requires", hint=_hint_at(document))
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
        texts = _texts(project.get("dependencies", []), f"{where}: project.dependencies")
        yield from ((*each, None) for each in texts)
    own, seen = _own_name(document, where), set()
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
            if "[" in text and _name_in(text) == own:  # project[a,b] in an extra means these extras
                wanted += [canonicalize_name(each) for each in Requirement(text).extras]
            else:
                yield where_it_is, text, ("extra", extra)


def _own_name(document: Mapping[str, Any], where: str) -> str | None:
    name = _table(document, "project", where).get("name")
    return canonicalize_name(name) if isinstance(name, str) else None


def _name_in(text: str) -> str | None:
    found = _NAME.match(text)
    return canonicalize_name(found[0].strip()) if found else None


def _hint_at(document: Mapping[str, Any]) -> str | None:
    if "poetry" in _table(document, "tool", ""):
        return "write a requirements.txt of Poetry's lock: poetry export -o requirements.txt"
    return None


def _of_groups(document: Mapping[str, Any], parts: ProjectParts, where: str) -> Iterator[tuple[str, str, _Part]]:
    from packaging.dependency_groups import resolve_dependency_groups

    groups = dict(_table(document, "dependency-groups", where))
    settings = _settings_of_uv(document, where)
    if older := _list_of_texts(settings, "dev-dependencies", where):  # as uv wrote it before PEP 735
        name = next((name for name in groups if canonicalize_name(name) == "dev"), "dev")
        newer = groups.get(name, [])
        groups[name] = [*newer, *older] if isinstance(newer, list) else newer
    for group in [*parts.groups, *(groups if parts.all_groups else ())]:
        place = f"{where}: dependency-groups.{group}"
        try:
            part = ("group", canonicalize_name(group))
            yield from ((place, text, part) for text in resolve_dependency_groups(groups, group))
        except (LookupError, ValueError, TypeError, ExceptionGroup) as error:
            there = ", ".join(sorted(groups)) or "none"
            raise RequirementError(f"{place} cannot be read: {_reason(error)}", hint=f"it has: {there}") from error


def _reason(error: BaseException) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error).strip("'\"")


class _Sources:
    """`[tool.uv.sources]`, `[[tool.uv.index]]` and the like: where uv would take each project from."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        uv = _settings_of_uv(document, where)
        self._where = where
        sources = _table(uv, "sources", f"{where}: tool.uv")
        self._sources = {canonicalize_name(name): source for name, source in sources.items()}
        listed = uv.get("index", [])
        if not isinstance(listed, list) or not all(isinstance(index, Mapping) for index in listed):
            raise RequirementError(f"{where}: tool.uv.index is not a list of tables")
        indexes = [index for index in listed if "url" in index]
        self._indexes = {str(index.get("name")): PrivateUrl.parse(str(index["url"])) for index in indexes}
        shared = [index for index in indexes if not index.get("explicit")]
        self._flat = {str(index.get("name")) for index in indexes if index.get("format") == "flat"}
        default = [str(index["url"]) for index in shared if index.get("default")] + self._urls(uv, "index-url")
        extras = [str(index["url"]) for index in shared if not index.get("default") and index.get("format") != "flat"]
        links = [str(index["url"]) for index in shared if index.get("format") == "flat"]
        self._options = PipOptions(
            for_all=True,
            index_url=PrivateUrl.parse(default[0]) if default else None,
            extra_index_urls=tuple(map(PrivateUrl.parse, extras + self._urls(uv, "extra-index-url"))),
            find_links=tuple(map(PrivateUrl.parse, links + self._urls(uv, "find-links"))),
            no_index=uv.get("no-index") is True,
            no_binary=_packages(uv, "no-binary", where),
            only_binary=_packages(uv, "no-build", where),
            pre=uv.get("prerelease") == "allow",
        )

    def _urls(self, uv: Mapping[str, Any], key: str) -> list[str]:
        urls = [uv[key]] if isinstance(uv.get(key), str) else _list_of_texts(uv, key, self._where)
        if local := next((url for url in urls if "://" not in url), None):
            raise RequirementError(
                f"{self._where}: tool.uv.{key}: {local} is a folder of this machine", hint=_HOW_TO_COPY
            )
        return urls

    def of(self, requirement: Requirement, where: str, part: _Part) -> Iterator[ParsedRequirement]:
        """The requirement from each of its sources, and from the indexes for environments that no source is for."""
        given = self._sources.get(canonicalize_name(requirement.name), [])
        place = f"{self._where}: tool.uv.sources.{requirement.name}"
        rest = requirement.marker
        for source in given if isinstance(given, Sequence) else [given]:
            if not isinstance(source, Mapping):
                raise RequirementError(f"{place} is not a table")
            if any(key in source and part != (key, canonicalize_name(str(source[key]))) for key in ("extra", "group")):
                continue
            marker = _marker(source.get("marker"), place)
            yield self._from(source, _where_also(requirement, marker), place, where)
            if marker is None:
                return
            rest = negated(marker) if rest is None else rest & negated(marker)
        remaining = Requirement(str(requirement))
        remaining.marker = rest
        yield self._from_index(remaining, self._options, where)

    def _from(self, source: Mapping[str, Any], joined: Requirement, place: str, where: str) -> ParsedRequirement:
        if str(source.get("index")) in self._flat:
            raise RequirementError(
                f'{place}: {source["index"]} is a page of links (format = "flat") for this project alone',
                hint="lock with uv, and take over its answer: uv_sync() or -r uv.lock",
            )
        if "index" in source:
            index = self._indexes.get(str(source["index"]))
            if index is None:
                raise RequirementError(f"{place}: tool.uv.index has no {source['index']!r}")
            return self._from_index(joined, replace(self._options, only_from=index), where)
        if "git" in source:
            revision = source.get("rev") or source.get("tag") or source.get("branch")
            url = f"git+{source['git']}" + (f"@{revision}" if revision else "")
        elif "url" in source:
            url = str(source["url"])
        else:
            raise RequirementError(f"{place} is a folder of this machine", hint=_HOW_TO_COPY)
        if "subdirectory" in source:
            url += f"#subdirectory={source['subdirectory']}"
        extras = tuple(sorted(canonicalize_name(extra) for extra in joined.extras))
        name = canonicalize_name(joined.name)
        return UrlRequirement(url=PrivateUrl.parse(url), name=name, extras=extras, marker=joined.marker, where=where)

    def _from_index(self, requirement: Requirement, options: PipOptions, where: str) -> ParsedRequirement:
        if requirement.url is not None:
            name, extras = canonicalize_name(requirement.name), tuple(sorted(requirement.extras))
            url = PrivateUrl.parse(requirement.url)
            return UrlRequirement(url=url, name=name, extras=extras, marker=requirement.marker, where=where)
        return PackageRequirement(requirement=requirement, options=options, where=where)


def _where_also(requirement: Requirement, marker: Marker | None) -> Requirement:
    joined = Requirement(str(requirement))
    if marker is not None:
        joined.marker = marker if joined.marker is None else joined.marker & marker
    return joined


def _marker(text: object, place: str) -> Marker | None:
    try:
        return None if text is None else Marker(str(text))
    except InvalidMarker as error:
        raise RequirementError(f"{place}: {text} is not a marker: {str(error).splitlines()[0]}") from error


def _settings_of_uv(document: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    uv = _table(_table(document, "tool", where), "uv", f"{where}: tool")
    if other := next((key for key in _OTHER_ANSWERS if uv.get(key) and uv[key] != _HARMLESS.get(key)), None):
        if (other, uv[other]) == ("prerelease", "allow"):
            return uv
        raise RequirementError(
            f"{where}: tool.uv.{other} makes uv choose other packages than klock would",
            hint="lock with uv, and take over its answer: uv_sync() or -r uv.lock",
        )
    return uv


def _packages(uv: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """The names that a setting is for: `key` is for all, `key-package` for some."""
    named = tuple(map(canonicalize_name, _list_of_texts(uv, f"{key}-package", where)))
    return (":all:",) if uv.get(key) is True else named


def _list_of_texts(uv: Mapping[str, Any], key: str, where: str) -> list[str]:
    return [text for _, text in _texts(uv.get(key, []), f"{where}: tool.uv.{key}")]


def _table(document: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, Mapping):
        raise RequirementError(f"{where}: {key} is not a table")
    return table


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise RequirementError(f"{where} is not a list of strings")
    yield from ((f"{where}[{number}]", str(item)) for number, item in enumerate(value))
