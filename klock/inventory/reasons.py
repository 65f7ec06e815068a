"""Why something is in an environment: the builder's line that brings it, and the chain from what that line asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final

from klock.inventory.holdings import Holding, base_in_words, holdings
from klock.lockfile.model import TargetLock
from klock.project_names import normalised_name
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.parts import OF_CONDA, TO_BUILD, Part, Sort
from klock.values import dataclass
from klock.words import counted, in_bytes

__all__ = ["Lines", "Reason", "Requires", "names_in", "reasons"]

_MOST_CHAINS: Final = 5
_NOUNS: Final = {
    Sort.BASE: "base image",
    Sort.PYTHON: "the Python that packages are for",
    Sort.PACKAGE: "Python package",
    Sort.DEB: "Debian package",
    Sort.REQUEST: "answer of the network",
    Sort.LAYER: "layer of a step",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """By name, what packages depend on: Python's as locked, Debian's as far as the store has dpkg's own record."""

    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    debs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of(self, sort: Sort) -> Mapping[str, Sequence[str]]:
        return self.packages if sort is Sort.PACKAGE else self.debs


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The builder calls of the base and of the steps, as far as they are known: `kimage.py:7`."""

    steps: Sequence[str | None] = ()
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """`where` is the base or the step that brings `part`, in words. Each of `chains` begins with a package that is
    asked for there and ends with this one; none where it is asked for itself, or nobody knows. `note` says more."""

    part: Part
    where: str
    chains: tuple[tuple[str, ...], ...] = ()
    note: str = ""

    def lines(self) -> Iterator[str]:
        """`anyio 4.9.0: Python package, 107.9 kB`, then indented where it comes from and each chain."""
        noun, size = _NOUNS.get(self.part.sort, self.part.sort.value), self.part.size
        said = ", ".join(
            filter(None, (noun, in_bytes(size) if size and self.part.sort is not Sort.FILE else "", self.note))
        )
        yield f"{self.part.name} {self.part.value}".rstrip() + f": {said}"
        yield f"  {self.where}"
        yield from (f"  {' -> '.join(chain)}" for chain in self.chains[:_MOST_CHAINS])
        if (more := len(self.chains) - _MOST_CHAINS) > 0:
            yield f"  and {counted(more, 'chain')} more"

    def to_json(self) -> dict[str, object]:
        part = self.part
        return {
            "sort": part.sort.value,
            "name": part.name,
            "value": part.value,
            "size": part.size,
            "where": self.where,
            "chains": [list(chain) for chain in self.chains],
        }


def names_in(lock: TargetLock) -> list[str]:
    """The names that `reasons` can be asked for."""
    return list(dict.fromkeys(holding.part.name.removesuffix(TO_BUILD) for holding in holdings(lock)))


def reasons(name: str, lock: TargetLock, requires: Requires, lines: Lines) -> list[Reason]:
    """Everything in `lock` that is called `name`: a package, a file or a folder of files by its path, a variable, a
    setting, a part of a URL."""
    found = list(holdings(lock))
    asked: dict[tuple[Sort, int | None], list[str]] = {}
    for holding in found:
        if holding.part.sort in (Sort.PACKAGE, Sort.DEB):
            asked.setdefault((holding.part.sort, holding.position), []).append(holding.part.name)
    return [
        Reason(
            part=holding.part,
            where=where(holding.position, lock, lines),
            chains=tuple(_chains(holding, lock, requires, asked)),
        )
        for holding in found
        if _is_called(name, holding.part)
    ]


def where(position: int | None, lock: TargetLock, lines: Lines) -> str:
    """`step 1 pip_install numpy (kimage.py:5)`, `base python:3.12-slim (kimage.py:4)`"""
    if position is None:
        return f"base {base_in_words(lock)}" + (f" ({lines.base})" if lines.base else "")
    location = lines.steps[position] if position < len(lines.steps) else None
    return StepAt(lock=lock, position=position, location=location).heading


def _is_called(name: str, part: Part) -> bool:
    match part.sort:
        case Sort.PACKAGE:
            plain = part.name.removesuffix(TO_BUILD).removesuffix(OF_CONDA)
            return normalised_name(name) in (normalised_name(plain), normalised_name(part.name))
        case Sort.FILE:
            return part.name == name.rstrip("/") or part.name.startswith(name.rstrip("/") + "/")
        case Sort.REQUEST:
            return "/" in name and name in part.name
        case Sort.LAYER | Sort.STEP:
            return False
        case _:
            return part.name == name


def _chains(
    holding: Holding, lock: TargetLock, requires: Requires, beside: Mapping[tuple[Sort, int | None], Sequence[str]]
) -> Iterator[tuple[str, ...]]:
    """The shortest chain from each package that is asked for to this one."""
    sort, name = holding.part.sort, holding.part.name
    if sort not in (Sort.PACKAGE, Sort.DEB):
        return
    edges = requires.of(sort)
    versions = {h.part.name: h.part.value for h in holdings(lock) if h.part.sort is sort}
    asked = asked_for(holding.position, lock)
    found = roots(beside.get((sort, holding.position), ()), asked, edges)
    # A base has packages that nobody asks for and nothing depends on, since every Debian has them.
    for root in sorted(found, key=lambda root: root not in asked):
        if root != name and (chain := _shortest(root, name, edges)):
            yield tuple(f"{link} {versions[link]}" if link in versions else link for link in chain)


def asked_for(position: int | None, lock: TargetLock) -> frozenset[str]:
    """The names that the base or a step asks for itself."""
    if position is None:
        return frozenset(getattr(lock.base, "packages", ()))
    return kind_of(lock.steps[position]).asks_for(lock.steps[position])


def roots(names: Iterable[str], asked: frozenset[str], edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Of `names` those that are asked for, and those that nothing depends on."""
    names = list(names)
    needed = {child for parent in names for child in edges.get(parent, ())}
    return [name for name in names if name in asked or name not in needed]


def _shortest(start: str, end: str, edges: Mapping[str, Sequence[str]]) -> list[str] | None:
    before: dict[str, str | None] = {start: None}
    level = [start]
    while level and end not in before:
        below = []
        for parent in level:
            for child in edges.get(parent, ()):
                if child not in before:
                    before[child] = parent
                    below.append(child)
        level = below
    if end not in before:
        return None
    chain: list[str] = []
    link: str | None = end
    while link is not None:
        chain.insert(0, link)
        link = before[link]
    return chain
