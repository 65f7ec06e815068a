"""What a pyproject.toml asks for: dependencies, extras (PEP 621) and groups (PEP 735), from the sources and indexes and
within the constraints of uv's settings for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from klock.errors import RequirementError
from klock.image.markers import both, negated, only_where
from klock.image.pip_options import PipOptions
from klock.image.requirements import PackageRequirement, ParsedRequirement, ProjectParts, Steering, UrlRequirement
from klock.image.uv_settings import UvSettings, is_local, list_of_texts, numbered_texts, table_in, uv_table_in
from klock.patterns import regex
from klock.secrets.userinfo import PrivateUrl
from klock.values import replace

__all__ = ["constraints_of_project", "from_sources", "requirements_of_project", "steering_of_project"]

_NAME: Final = regex(r"\s*[A-Za-z0-9][A-Za-z0-9._-]*")
_HOW_TO_COPY: Final = 'copy it with rsync() and install it from there: pip_install(["/PATH"])'


def requirements_of_project(
    document: Mapping[str, Any], parts: ProjectParts, where: str, settings: UvSettings
) -> Iterator[ParsedRequirement]:
    """The dependencies of the project (unless `parts` has groups alone), of its extras and its groups, each once.

    The project itself is none of them. Raises RequirementError.
    """
    if parts.no_dev or parts.no_default_groups or parts.package:
        raise RequirementError(
            f"{where}: --no-dev, --no-default-groups and --package are for uv.lock",
            hint="name what you want: --group NAME, --extra NAME",
        )
    parts = _with_parts_of_settings(parts, settings)
    sources = _Sources(settings, where)
    of_groups, own = list(_of_groups(document, parts, where)), _own_name(document, where)
    itself = [_requirement(text, place) for place, text, _ in of_groups if _name_in(text) == own]
    if itself:  # the group wants all that the project requires
        extras = sorted({extra for requirement in itself for extra in requirement.extras})
        parts = replace(parts, extras=(*parts.extras, *extras), groups_only=False)
    texts = [*_of_project(document, parts, where), *(each for each in of_groups if _name_in(each[1]) != own)]
    for place, text, part in dict.fromkeys(texts):
        yield from sources.of(_requirement(text, place), place, part)


def from_sources(
    texts: Iterable[tuple[str, str | None]], settings: UvSettings, where: str
) -> tuple[list[ParsedRequirement], list[str]]:
    """The requirements of a project, each with the extra that it is of, from their sources in uv's settings. What is a
    folder for uv stays as it is, and its name comes with the others. Raises RequirementError."""
    sources = _Sources(settings, where, of_indexes=PipOptions())
    found: list[ParsedRequirement] = []
    folders: list[str] = []
    for text, extra in texts:
        requirement = _requirement(text, where)
        if sources.has_folder_for(requirement.name):
            folders.append(canonicalize_name(requirement.name))
            found.append(PackageRequirement(requirement=requirement, where=where))
        else:
            found += sources.of(requirement, where, None if extra is None else ("extra", extra))
    return found, folders


def constraints_of_project(settings: UvSettings) -> Iterator[PackageRequirement]:
    """The `constraint-dependencies` for uv in this project. Raises RequirementError."""
    yield from _named(settings, "constraint-dependencies")


def steering_of_project(settings: UvSettings, where: str) -> Steering:
    """What else of uv's settings decides which versions are chosen. Raises RequirementError."""
    sources = _Sources(settings, where, of_indexes=PipOptions())
    overrides: list[ParsedRequirement] = []
    for each in _named(settings, "override-dependencies"):
        for found in sources.of(each.requirement, each.where, None):
            if found.options.only_from is not None:
                raise RequirementError(
                    f"{each.where}: {found.name} has an index of its own, which uv forgets for an override",
                    hint="lock with uv, and take over its answer: uv_sync() or -r uv.lock",
                )
            overrides.append(found)
    return Steering(
        settings=settings.steering,
        places={key: settings.place(key) for key in settings.steering},
        overrides=tuple(overrides),
        excluded=tuple(canonicalize_name(name) for name in settings.texts("exclude-dependencies")),
        build_constraints=tuple(_named(settings, "build-constraint-dependencies")),
    )


def _named(settings: UvSettings, key: str) -> Iterator[PackageRequirement]:
    for place, text in numbered_texts(settings.values.get(key, []), settings.place(key)):
        yield PackageRequirement(requirement=_requirement(text, place), where=place)


def _with_parts_of_settings(parts: ProjectParts, settings: UvSettings) -> ProjectParts:
    """Extras and groups that `[tool.uv.pip]` chooses of the project, besides those that are named."""
    if parts.groups_only:
        return parts
    without = {canonicalize_name(name) for name in settings.texts("pip.no-extra")}
    return replace(
        parts,
        groups=(*parts.groups, *settings.texts("pip.group")),
        extras=tuple(e for e in (*parts.extras, *settings.texts("pip.extra")) if canonicalize_name(e) not in without),
        all_extras=parts.all_extras or settings.is_on("pip.all-extras"),
    )


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
    project = table_in(document, "project", where)
    dynamic = set(project.get("dynamic", ()))
    extras = {
        canonicalize_name(n): t for n, t in table_in(project, "optional-dependencies", f"{where}: project").items()
    }
    wanted = [canonicalize_name(extra) for extra in parts.extras] + (list(extras) if parts.all_extras else [])
    if (not parts.groups_only and "dependencies" in dynamic) or (wanted and "optional-dependencies" in dynamic):
        raise RequirementError(
            f"{where}: the project computes its dependencies when it is built (dynamic)",
            hint=_HOW_TO_COPY,
        )
    if not parts.groups_only:
        texts = numbered_texts(project.get("dependencies", []), f"{where}: project.dependencies")
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
        for where_it_is, text in numbered_texts(extras[extra], place):
            if "[" in text and _name_in(text) == own:  # project[a,b] in an extra means these extras
                wanted += [canonicalize_name(each) for each in Requirement(text).extras]
            else:
                yield where_it_is, text, ("extra", extra)


def _own_name(document: Mapping[str, Any], where: str) -> str | None:
    name = table_in(document, "project", where).get("name")
    return canonicalize_name(name) if isinstance(name, str) else None


def _name_in(text: str) -> str | None:
    found = _NAME.match(text)
    return canonicalize_name(found[0].strip()) if found else None


def _hint_at(document: Mapping[str, Any]) -> str | None:
    if "poetry" in table_in(document, "tool", ""):
        return "write a requirements.txt of Poetry's lock: poetry export -o requirements.txt"
    return None


def _of_groups(document: Mapping[str, Any], parts: ProjectParts, where: str) -> Iterator[tuple[str, str, _Part]]:
    from packaging.dependency_groups import resolve_dependency_groups

    groups = dict(table_in(document, "dependency-groups", where))
    own = uv_table_in(document, where)
    if older := list_of_texts(
        own.get("dev-dependencies", []), f"{where}: tool.uv.dev-dependencies"
    ):  # as uv wrote it before PEP 735
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
    """`[tool.uv.sources]`, `[[tool.uv.index]]` and the like: where uv would take each project from. With `of_indexes`
    the indexes that are for all have no part in it."""

    def __init__(self, settings: UvSettings, where: str, *, of_indexes: PipOptions | None = None) -> None:
        self._where = where
        self._sources = {} if settings.is_on("no-sources") else dict(settings.sources)
        for name in settings.texts("no-sources-package"):
            self._sources.pop(canonicalize_name(name), None)
        indexes = [index for index in settings.indexes if "url" in index]
        self._indexes = {str(index.get("name")): str(index["url"]) for index in reversed(indexes)}
        self._against = settings.is_on("no-build-isolation") or {
            canonicalize_name(name) for name in settings.texts("no-build-isolation-package")
        }
        self._flat = {str(index.get("name")) for index in indexes if index.get("format") == "flat"}
        counting = [index for index in settings.values.get("index", []) if "url" in index]
        shared = [index for index in counting if not index.get("explicit")]

        def urls(key: str, listed: list[Mapping[str, Any]]) -> tuple[PrivateUrl, ...]:
            given = settings.values.get(key, [])
            own = [given] if isinstance(given, str) else settings.texts(key)
            return tuple(
                [self._url(index["url"], settings.place("index")) for index in listed]
                + [self._url(url, settings.place(key)) for url in own]
            )

        if of_indexes is not None:
            self._options = of_indexes
            return
        default = urls("index-url", [index for index in shared if index.get("default")])
        others = [index for index in shared if not index.get("default")]
        self._options = PipOptions(
            for_all=True,
            index_url=default[0] if default else None,
            extra_index_urls=urls("extra-index-url", [index for index in others if index.get("format") != "flat"]),
            find_links=urls("find-links", [index for index in others if index.get("format") == "flat"]),
            no_index=settings.is_on("no-index"),
            no_binary=settings.packages("no-binary"),
            only_binary=(*settings.packages("no-build"), *settings.packages("pip.only-binary")),
        )

    def _url(self, url: object, place: str) -> PrivateUrl:
        if is_local(str(url)):
            raise RequirementError(f"{place}: {url} is a folder of this machine", hint=_HOW_TO_COPY)
        return PrivateUrl.parse(str(url))

    def has_folder_for(self, name: str) -> bool:
        """Whether uv takes the project from a folder or a file of this machine."""
        given = self._sources.get(canonicalize_name(name), [])
        listed = given if isinstance(given, Sequence) else [given]
        return any(isinstance(each, Mapping) and not {"index", "git", "url"} & each.keys() for each in listed)

    def of(self, requirement: Requirement, where: str, part: _Part) -> Iterator[ParsedRequirement]:
        """The requirement from each of its sources, and from the indexes for environments that no source is for."""
        options = self._options
        if self._against is True or canonicalize_name(requirement.name) in (self._against or ()):
            options = replace(options, no_build_isolation=True)
        given = self._sources.get(canonicalize_name(requirement.name), [])
        place = f"{self._where}: tool.uv.sources.{requirement.name}"
        rest = requirement.marker
        for source in given if isinstance(given, Sequence) else [given]:
            if not isinstance(source, Mapping):
                raise RequirementError(f"{place} is not a table")
            if any(key in source and part != (key, canonicalize_name(str(source[key]))) for key in ("extra", "group")):
                continue
            marker = _marker(source.get("marker"), place)
            yield self._from(source, only_where(requirement, marker), options, place, where)
            if marker is None:
                return
            rest = both(rest, negated(marker))
        remaining = Requirement(str(requirement))
        remaining.marker = rest
        yield self._from_index(remaining, options, where)

    def _from(
        self, source: Mapping[str, Any], joined: Requirement, options: PipOptions, place: str, where: str
    ) -> ParsedRequirement:
        if str(source.get("index")) in self._flat:
            raise RequirementError(
                f'{place}: {source["index"]} is a page of links (format = "flat") for this project alone',
                hint="lock with uv, and take over its answer: uv_sync() or -r uv.lock",
            )
        if "index" in source:
            index = self._indexes.get(str(source["index"]))
            if index is None:
                raise RequirementError(f"{place}: tool.uv.index has no {source['index']!r}")
            return self._from_index(joined, replace(options, only_from=self._url(index, place)), where)
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


def _marker(text: object, place: str) -> Marker | None:
    try:
        return None if text is None else Marker(str(text))
    except InvalidMarker as error:
        raise RequirementError(f"{place}: {text} is not a marker: {str(error).splitlines()[0]}") from error
