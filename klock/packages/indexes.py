"""Which index each requirement may be answered by: options scoped as the user wrote them, not spread over the image.

    a requirement's own line     `--index-url X torch`            only torch is looked up in X
    its requirements file        `--extra-index-url X` in it      what the file names
    the variables of its step    UV_EXTRA_INDEX_URL, PIP_...      what this step and later ones name

What all requirements of an image share is simply an index. The rest become *pins*: uv looks a pinned project up in that
one index and nowhere else, so that a name in a private index is never taken from a public one. A dependency that is in
no shared index is looked for in the scoped ones (`ScopePlan.fallbacks`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from klock.errors import RequirementError
from klock.packages.credentials import public_url
from klock.packages.request import PipRequest, RequirementOptions, ScopedRequirement
from klock.values import dataclass, replace

__all__ = ["DEFAULT_INDEX", "Index", "IndexSettings", "ScopePlan", "plan_scopes", "settings_from_variables"]

DEFAULT_INDEX: Final = "https://pypi.org/simple"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index by its URL without credentials. `flat`: a page or folder of links (`--find-links`), not PEP 503."""

    url: str
    flat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """Where to look, best first: `extras`, then `default` (None with `--no-index`), and `find_links` beside them."""

    default: Index | None
    extras: tuple[Index, ...] = ()
    find_links: tuple[Index, ...] = ()
    pre: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopePlan:
    """`shared` is for every project; a project in `pins` is looked up in that index only."""

    shared: IndexSettings
    pins: Mapping[str, Index]
    fallbacks: tuple[Index, ...]


def settings_from_variables(environment: Mapping[str, str], default: str = DEFAULT_INDEX) -> IndexSettings:
    """What uv's and pip's index variables in the container say; uv's come first. Credentials are left out."""
    urls: dict[str, list[str]] = {
        name: [re.sub(r"^[A-Za-z0-9._-]+=", "", url) for url in environment.get(name, "").split()]
        for name in (
            *("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
            *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_FIND_LINKS"),
        )
    }
    urls["UV_FIND_LINKS"] = environment.get("UV_FIND_LINKS", "").replace(",", " ").split()
    defaults = [*urls["UV_DEFAULT_INDEX"], *urls["UV_INDEX_URL"], *urls["PIP_INDEX_URL"], default]
    no_index = any(_is_true(environment.get(name, "")) for name in ("UV_NO_INDEX", "PIP_NO_INDEX"))
    extras = [*urls["UV_INDEX"], *urls["UV_EXTRA_INDEX_URL"], *urls["PIP_EXTRA_INDEX_URL"]]
    return IndexSettings(
        default=None if no_index else Index(url=public_url(defaults[0])),
        extras=() if no_index else _indexes(extras),
        find_links=_indexes([*urls["UV_FIND_LINKS"], *urls["PIP_FIND_LINKS"]], flat=True),
        pre=environment.get("UV_PRERELEASE") == "allow" or _is_true(environment.get("PIP_PRE", "")),
    )


def plan_scopes(
    requests: Sequence[PipRequest],
    *,
    name_of: Callable[[ScopedRequirement], str | None],
    offers: Callable[[Index, str], bool],
    default: str = DEFAULT_INDEX,
) -> ScopePlan:
    """Divides indexes into shared and scoped ones. `offers` asks an index whether it has a project.

    A scoped extra index is used for a project when it has it, the first such index winning (uv's first-index strategy):
    a private name is never looked for in public. Raises RequirementError when one project is tied to two indexes.
    """
    steps: list[IndexSettings] = []
    lines: list[tuple[ScopedRequirement, IndexSettings]] = []
    for request in requests:
        step = settings_from_variables(request.environment, default)
        steps += [step] if request.projects else []
        lines += [(requirement, _with_options(step, requirement.options)) for requirement in request.requirements]
        if len(requests) == 1 and len(request.requirements) == 1 and not request.requirements[0].options.for_all:
            # A lone requirement's indexes are not named for what it depends on.
            steps.append(replace(step, pre=step.pre or request.requirements[0].options.pre))
    everything = [*steps, *(settings for _, settings in lines)]
    if not everything:
        return ScopePlan(shared=settings_from_variables({}, default), pins={}, fallbacks=())
    shared = _shared(everything, default)
    pins: dict[str, tuple[Index, str]] = {}
    fallbacks: dict[Index, None] = {}
    for requirement, settings in lines:
        name = name_of(requirement)
        if requirement.options.only_from is not None:
            chosen: Index | None = Index(url=public_url(requirement.options.only_from))
        else:
            candidates = _candidates(settings, shared)
            fallbacks.update(dict.fromkeys(candidates))
            chosen = None if name is None else _chosen(name, candidates, settings, offers)
        if name is None or chosen is None:
            continue
        if name in pins and pins[name][0] != chosen:
            other, origin = pins[name]
            raise RequirementError(
                f"{requirement.origin}: {name} is to come from {chosen.url}, but {origin} takes it from {other.url}",
                hint="all pip steps of an image are resolved together: name one index for this project",
            )
        pins.setdefault(name, (chosen, requirement.origin))
    return ScopePlan(
        shared=shared, pins={name: index for name, (index, _) in sorted(pins.items())}, fallbacks=tuple(fallbacks)
    )


def _chosen(
    name: str, candidates: Sequence[Index], settings: IndexSettings, offers: Callable[[Index, str], bool]
) -> Index | None:
    if not candidates:
        return None
    *others, last = candidates
    chosen = next((index for index in others if offers(index, name)), None)
    if chosen is None and (last == settings.default or offers(last, name)):
        return last
    return chosen


def _with_options(step: IndexSettings, options: RequirementOptions) -> IndexSettings:
    default = Index(url=public_url(options.index_url)) if options.index_url else step.default
    return IndexSettings(
        default=None if options.no_index else default,
        extras=() if options.no_index else _unique([*_indexes(options.extra_index_urls), *step.extras]),
        find_links=_unique([*_indexes(options.find_links, flat=True), *step.find_links]),
        pre=step.pre or options.pre,
    )


def _shared(all_settings: Sequence[IndexSettings], default: str) -> IndexSettings:
    """What all have in common. Without a common default index it is the configured one."""
    first = all_settings[0]
    same_default = all(settings.default == first.default for settings in all_settings)
    return IndexSettings(
        default=first.default if same_default else Index(url=default),
        extras=tuple(index for index in first.extras if all(index in settings.extras for settings in all_settings)),
        find_links=tuple(i for i in first.find_links if all(i in settings.find_links for settings in all_settings)),
        pre=all(settings.pre for settings in all_settings),
    )


def _candidates(settings: IndexSettings, shared: IndexSettings) -> tuple[Index, ...]:
    """The indexes only this requirement has, best first."""
    own = [index for index in settings.find_links if index not in shared.find_links]
    own += [index for index in settings.extras if index not in shared.extras]
    if settings.default is not None and settings.default != shared.default:
        own.append(settings.default)
    return _unique(own)


def _indexes(urls: Sequence[str], *, flat: bool = False) -> tuple[Index, ...]:
    return _unique([Index(url=public_url(url), flat=flat) for url in urls])


def _unique(indexes: Sequence[Index]) -> tuple[Index, ...]:
    return tuple(dict.fromkeys(indexes))


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on", "t", "y")
