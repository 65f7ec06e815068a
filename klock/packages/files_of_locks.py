"""Which file of another tool's lock is meant, where the lock names no index: the one that fits the environment best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from packaging.requirements import Requirement
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion

from klock.errors import ResolutionError
from klock.packages.no_wheel import why_no_wheel
from klock.packages.request import ScopedRequirement
from klock.packages.selection import file_name_of

__all__ = ["at_its_file", "version_of_url"]


def at_its_file(scoped: ScopedRequirement, requirement: Requirement, tags: Sequence[str]) -> ScopedRequirement:
    """The requirement with the URL of the one file that is meant. Raises ResolutionError where none fits."""
    if not scoped.files:
        return scoped
    names = {url: file_name_of(url) for url in scoped.files}
    order = {tag: number for number, tag in enumerate(tags)}
    ranked = []
    for url, name in names.items():
        try:
            _, _, build, of_wheel = parse_wheel_filename(name)
        except (InvalidWheelFilename, InvalidVersion):
            continue
        fitting = [order[str(tag)] for tag in of_wheel if str(tag) in order]
        if fitting:
            ranked.append((-min(fitting), build or (-1, ""), url))
    sources = [url for url, name in names.items() if not name.endswith(".whl")]
    builds = {":all:", requirement.name} & {*scoped.options.no_binary}
    chosen = sources[:1] if builds or not ranked else [max(ranked)[2]]
    if not chosen:
        [pin] = requirement.specifier
        why = why_no_wheel(pin.version, list(names.values()), tags)
        raise ResolutionError(
            f"{scoped.origin}: no file of {requirement.name}=={pin.version} fits the environment's Python: it {why}",
            hint="lock it for this Python and system, too",
        )
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    return replace(scoped, text=f"{requirement.name} @ {chosen[0]}{marker}", files=())


def version_of_url(url: str) -> str | None:
    """The version that a file's name has."""
    name = file_name_of(url)
    try:
        return str(parse_wheel_filename(name)[1] if name.endswith(".whl") else parse_sdist_filename(name)[1])
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
