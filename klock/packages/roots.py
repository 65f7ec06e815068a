"""The requirements of all steps as roots of one resolution: a name, extras and the step that asks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from klock.errors import RequirementError
from klock.image.requirements import lacks_hash
from klock.packages.files_of_locks import at_its_file
from klock.packages.interpreter import TargetPython
from klock.packages.overriding import Overriding
from klock.packages.request import PipRequest, ScopedRequirement, parse_requirement
from klock.values import dataclass, replace

__all__ = ["Root", "constraints_in", "line_of", "name_of", "read_roots", "roots_in"]

_REPOSITORY: Final = re.compile(
    r"(?P<before>(?:[^@;]*@\s*)?git\+)(?P<url>[a-z+]+://(?:[^/@\s]*@)?[^@#\s;]+)(?:@(?P<revision>[^#\s;]+))?(?P<after>.*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A requirement of step number `step`. `requirement` is None for a URL whose project is not known yet."""

    step: int
    scoped: ScopedRequirement
    requirement: Requirement | None

    @property
    def name(self) -> str | None:
        return canonicalize_name(self.requirement.name) if self.requirement else None

    @property
    def extras(self) -> frozenset[str]:
        return frozenset(canonicalize_name(e) for e in self.requirement.extras) if self.requirement else frozenset()

    def applies_to(self, python: TargetPython) -> bool:
        marker = self.requirement.marker if self.requirement else None
        return marker is None or marker.evaluate({**python.markers, "extra": ""})

    def allows(self, version: str) -> bool:
        """Whether an installed version meets it. As in pip, a pre-release that is already there may stay."""
        if self.requirement is None or self.requirement.url is not None:
            return False
        try:
            return self.requirement.specifier.contains(version, prereleases=True)
        except InvalidVersion:
            return False


def read_roots(requests: Sequence[PipRequest], overriding: Overriding | None = None) -> tuple[Root, ...]:
    """Raises RequirementError for a text that is neither PEP 508 nor a URL."""
    changes = overriding or Overriding()
    return tuple(
        Root(step=number, scoped=line, requirement=parse_requirement(line))
        for number, request in enumerate(requests)
        for scoped in request.requirements
        for line in changes.of_line(scoped, parse_requirement(scoped))
    )


def roots_in(
    python: TargetPython, requests: Sequence[PipRequest], overriding: Overriding | None = None
) -> tuple[Root, ...]:
    """The roots that count in this environment. Raises RequirementError for one of a lock for others, too (PEP 751)."""
    roots = tuple(root for root in read_roots(requests, overriding) if root.applies_to(python))
    for scoped in (root.scoped for root in roots):
        if scoped.lacks_hash:
            raise lacks_hash(scoped.text, scoped.origin)
    lines = (line for request in requests for line in request.requirements if line.only_for)
    for scoped in {line.only_for: line for line in reversed([*lines])}.values():
        if not Marker(scoped.only_for).evaluate({**python.markers, "extra": ""}):
            markers = python.markers
            here = f"Python {markers['python_full_version']} on {markers['sys_platform']} {markers['platform_machine']}"
            raise RequirementError(
                f"{scoped.origin}: it is for {scoped.only_for}, and the environment has {here}",
                hint="lock it for this environment too, or take another base or target",
            )
    return tuple(map(partial(_at_its_file, python=python), roots))


def _at_its_file(root: Root, python: TargetPython) -> Root:
    if root.requirement is None or not root.scoped.files:
        return root
    scoped = at_its_file(root.scoped, root.requirement, python.tags)
    return replace(root, scoped=scoped, requirement=parse_requirement(scoped))


def constraints_in(python: TargetPython, requests: Sequence[PipRequest]) -> tuple[Root, ...]:
    """The constraints that count in this environment, in the form of roots, which they are not."""
    found = (
        Root(step=number, scoped=scoped, requirement=parse_requirement(scoped))
        for number, request in enumerate(requests)
        for scoped in request.constraints
    )
    return tuple(each for each in found if each.applies_to(python))


def line_of(name: str, roots: Iterable[Root]) -> str:
    """The first line that asks for a project, `kimage.py:7: numpy>=2`; empty where none does."""
    return next((f"{root.scoped.origin}: {root.scoped.text}" for root in roots if root.name == name), "")


def name_of(scoped: ScopedRequirement) -> str | None:
    """The normalised project name of a requirement from an index; None for a direct reference."""
    requirement = parse_requirement(scoped)
    return canonicalize_name(requirement.name) if requirement is not None and requirement.url is None else None


def same_repository(text: str, url: str) -> bool:
    """Whether a nameless requirement (`git+https://host/x@rev#egg=y`) is the source `url` (`https://host/x`)."""
    return _bare(text) == _bare(url)


def split_revision(text: str) -> tuple[str, str, str | None, str] | None:
    """A VCS requirement in four: what is before the repository's URL (`x @ git+`), the URL, the revision, the rest."""
    match = _REPOSITORY.fullmatch(text)
    return (match["before"], match["url"], match["revision"], match["after"]) if match else None


def _bare(url: str) -> str:
    bare = url.partition(" ;")[0].strip()
    parts = urlsplit(bare.partition("+")[2] if bare.startswith(("git+", "hg+", "svn+", "bzr+")) else bare)
    path = unquote(parts.path).partition("@")[0].removesuffix(".git").rstrip("/")
    return f"{(parts.hostname or '').lower()}:{parts.port}{path}"
