"""Whether a uv.lock still has what its pyproject.toml requires, as far as that can be said without resolving.

`uv sync` would lock anew where it has not. uv also compares markers and sources (`uv lock --check`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

__all__ = ["not_in_lock"]


def not_in_lock(project: Mapping[str, Any], lock: Mapping[str, Any]) -> list[str]:
    """What `[project]` requires otherwise than the lock has it, each as the project says it, and each of the lock that
    the project no longer requires. Empty where nobody knows."""
    packages = [p for p in lock.get("package", ()) if isinstance(p, Mapping)]
    own = next((p for p in packages if _is_own(p.get("source"))), {})
    listed = own.get("metadata", {}).get("requires-dist") if isinstance(own.get("metadata"), Mapping) else None
    if "dependencies" in project.get("dynamic", ()) or "optional-dependencies" in project.get("dynamic", ()):
        return []
    if not own or not isinstance(listed or [], Sequence):
        return []
    locked: dict[str, list[Mapping[str, Any]]] = {}
    for each in listed or ():
        if isinstance(each, Mapping):
            locked.setdefault(str(each.get("name")), []).append(each)
    found, named = [], set()
    for text, requirement in _requirements(project):
        name = canonicalize_name(requirement.name)
        named.add(name)
        if name not in locked or not any(_is_of(each, requirement) for each in locked[name]):
            found.append(text)
    return [*found, *(f"no {name}" for name in locked if name not in named)]


def _is_own(source: object) -> bool:
    return isinstance(source, Mapping) and "." in (source.get("virtual"), source.get("editable"))


def _requirements(project: Mapping[str, Any]) -> Iterator[tuple[str, Requirement]]:
    texts = [*project.get("dependencies", ())]
    texts += [text for each in project.get("optional-dependencies", {}).values() for text in each]
    for text in texts:
        try:
            yield text, Requirement(text)
        except (InvalidRequirement, TypeError):
            continue  # who reads the project says it


def _is_of(locked: Mapping[str, Any], requirement: Requirement) -> bool:
    """Of what has a source of its own the version says nothing."""
    if requirement.url is not None or locked.keys() - {"name", "specifier", "marker", "extras", "index"}:
        return True
    try:
        return SpecifierSet(str(locked.get("specifier", ""))) == requirement.specifier
    except InvalidSpecifier:
        return True
