"""Says what becomes of the base's own distributions: which are replaced, and through which requirements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from klock.errors import ResolutionError
from klock.lockfile.model import LockedPackage
from klock.packages.interpreter import TargetPython
from klock.packages.overriding import lines_of_files
from klock.packages.request import PipRequest, parse_requirement
from klock.packages.roots import Root
from klock.values import dataclass
from klock.words import listed

__all__ = ["held_by_constraints", "refuse_replacements", "replacements"]

_Read: TypeAlias = "Callable[[str], bytes | None]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edge:
    """`text` is what `parent` requires of `child`; `origin` is where an edge without a parent stands."""

    parent: str | None
    child: str
    text: str
    specifier: SpecifierSet
    origin: str = ""

    def refuses(self, version: str) -> bool:
        try:
            return not self.specifier.contains(version, prereleases=True)
        except InvalidVersion:
            return True


def replacements(
    packages: Sequence[LockedPackage],
    roots: Sequence[Root],
    requires: Mapping[str, Sequence[str]],
    python: TargetPython,
) -> Iterator[str]:
    """For each of `packages` that replaces a distribution of the base a sentence, with the chain that causes it:
    `torch 2.4.0a0 of the base is replaced by 2.5.0: kimage.py:7: a requires b>=2 requires torch>=2.4`.

    `requires` has the requirements of every installed project by its name.
    """
    replaced = [package for package in packages if package.replaces is not None]
    if not replaced:
        return
    edges = list(_edges(roots, requires, python))
    first: dict[str, _Edge] = {}
    for edge in edges:
        first.setdefault(edge.child, edge)
    for package in replaced:
        before = package.replaces or ""
        leading = [edge for edge in edges if edge.child == package.name]
        cause = next((edge for edge in leading if edge.refuses(before)), leading[0] if leading else None)
        because = f": {_chain(cause, first)}" if cause else ""
        yield f"{package.name} {before} of the base is replaced by {package.version}{because}"


def held_by_constraints(requests: Sequence[PipRequest], python: TargetPython, read: _Read) -> set[str]:
    """Distributions of the base whose version a constraint names, as vendors' files do for their own builds, which no
    index has: as for pip, a wish for the newest is met by what is there."""
    lines = [line for request in requests for line in request.constraints]
    lines += lines_of_files(requests, "PIP_CONSTRAINT", read)
    held: set[str] = set()
    for requirement in filter(None, map(parse_requirement, lines)):
        installed = python.versions.get(name := canonicalize_name(requirement.name))
        named = [each.version for each in requirement.specifier if each.operator in ("==", "===")]
        if installed is not None and _is_one_of(installed, named):
            held.add(name)
    return held


def _is_one_of(version: str, named: Sequence[str]) -> bool:
    try:
        return Version(version) in [Version(each) for each in named if not each.endswith("*")]
    except InvalidVersion:
        return version in named


def refuse_replacements(sentences: Sequence[str]) -> None:
    """Raises ResolutionError with all of them, if there are any."""
    if sentences:
        raise ResolutionError(
            f"the base is to be kept, and the image replaces what it has:{listed(sentences)}",
            hint="ask for versions that fit the base's own, or lock without --keep-base",
        )


def _edges(roots: Sequence[Root], requires: Mapping[str, Sequence[str]], python: TargetPython) -> Iterator[_Edge]:
    """All requirements that the roots lead to, the nearest to a root first."""
    level: list[tuple[str, frozenset[str]]] = []
    for root in roots:
        if root.name is not None and root.requirement is not None:
            text, specifier = str(root.requirement).partition(";")[0].strip(), root.requirement.specifier
            yield _Edge(parent=None, child=root.name, text=text, specifier=specifier, origin=root.scoped.origin)
            level.append((root.name, root.extras))
    seen: dict[str, frozenset[str]] = {}
    while level:
        below: list[tuple[str, frozenset[str]]] = []
        for name, extras in level:
            if name in seen and extras <= seen[name]:
                continue
            seen[name] = extras | seen.get(name, frozenset())
            for requirement in _that_apply(requires.get(name, ()), seen[name], python):
                child = canonicalize_name(requirement.name)
                requirement.marker = None
                yield _Edge(parent=name, child=child, text=str(requirement), specifier=requirement.specifier)
                below.append((child, frozenset(canonicalize_name(extra) for extra in requirement.extras)))
        level = below


def _that_apply(texts: Sequence[str], extras: frozenset[str], python: TargetPython) -> Iterator[Requirement]:
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or any(
            marker.evaluate({**python.markers, "extra": extra}) for extra in ("", *sorted(extras))
        ):
            yield requirement


def _chain(edge: _Edge, first: Mapping[str, _Edge]) -> str:
    """From the image's own line to `edge`. Each project's first edge is nearer to a root than the project is."""
    words = [edge.text]
    while edge.parent is not None:
        edge = first[edge.parent]
        words.append(edge.text)
    return f"{edge.origin}: {' requires '.join(reversed(words))}"
