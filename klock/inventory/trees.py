"""All that a target is made of as a tree: the base, the steps, what each brings, and packages below those that ask for
them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from klock.inventory.holdings import Holding, holdings
from klock.inventory.reasons import Lines, Requires, asked_for, roots, where
from klock.lockfile.model import TargetLock, layer_of
from klock.steps.parts import Part, Sort
from klock.values import dataclass
from klock.words import counted, in_bytes

__all__ = ["Node", "tree_of"]


@dataclass(slots=True, kw_only=True)
class Node:
    """`size` in bytes: of a step all that it writes, of a package and a file what is fetched or copied."""

    text: str
    size: int = 0
    below: list[Node] = field(default_factory=list)

    def lines(self, *, most: int | None = None) -> Iterator[str]:
        """The tree as text, each node on a line; of more than `most` siblings only the first."""
        yield self.text + (f", {in_bytes(self.size)}" if self.size else "")
        shown = self.below if most is None or len(self.below) <= most + 1 else self.below[:most]
        for node in shown:
            is_last = node is self.below[-1]
            first, rest = ("└── ", "    ") if is_last else ("├── ", "│   ")
            for number, line in enumerate(node.lines(most=most)):
                yield (rest if number else first) + line
        if len(shown) < len(self.below):
            yield f"└── and {len(self.below) - len(shown)} more"

    def to_json(self) -> dict[str, object]:
        return {"text": self.text, "size": self.size, "below": [node.to_json() for node in self.below]}


def tree_of(lock: TargetLock, requires: Requires, lines: Lines, *, everything: bool = True) -> Node:
    """The target, below it the base and the steps in order.

    Without `everything`, Debian packages that nobody asks for are only counted.
    """
    by_position: dict[int | None, list[Holding]] = {}
    for holding in holdings(lock):
        by_position.setdefault(holding.position, []).append(holding)
    nodes = []
    for position in (None, *range(len(lock.steps))):
        parts = [holding.part for holding in by_position.get(position, ())]
        layer = None if position is None else layer_of(lock.steps[position])
        size = sum(part.size for part in parts) if layer is None else layer.size
        node = Node(text=where(position, lock, lines), size=size)
        asked = asked_for(position, lock)
        python, debs = ({part.name: part for part in parts if part.sort is s} for s in (Sort.PACKAGE, Sort.DEB))
        node.below += _packages(python, asked, requires.packages)
        node.below += _packages(debs, asked, requires.debs) if everything or not asked else _only_asked(debs, asked)
        rest = (Sort.FILE, Sort.VARIABLE, Sort.SETTING, Sort.REQUEST)
        node.below += [_leaf(part) for part in parts if part.sort in rest and position is not None]
        nodes.append(node)
    return Node(text=str(lock.target), size=sum(node.size for node in nodes), below=nodes)


def _only_asked(debs: Mapping[str, Part], asked: frozenset[str]) -> Iterator[Node]:
    yield from (_leaf(part) for name, part in debs.items() if name in asked)
    others = [part for name, part in debs.items() if name not in asked]
    if others:
        yield Node(text=counted(len(others), "other Debian package"), size=sum(part.size for part in others))


def _leaf(part: Part) -> Node:
    if part.sort is Sort.VARIABLE:
        return Node(text=f"{part.name}={part.value}")
    if part.sort in (Sort.PACKAGE, Sort.DEB, Sort.SETTING):
        return Node(text=f"{part.name} {part.value}".rstrip(), size=part.size)
    return Node(text=part.name, size=part.size)


def _packages(parts: Mapping[str, Part], asked: frozenset[str], edges: Mapping[str, Sequence[str]]) -> Iterator[Node]:
    """Each once with all below it; where it stands again, `(above)` says so."""
    said: set[str] = set()

    def node(name: str) -> Node:
        made = _leaf(parts[name])
        below = [child for child in edges.get(name, ()) if child in parts]
        if name in said:
            if below:
                made.text += " (above)"
            made.size = 0
            return made
        said.add(name)
        made.below = [node(child) for child in below]
        return made

    for root in roots(parts, asked, edges):
        if root in asked or root not in said:
            yield node(root)
    # What only leads to itself, in a circle.
    yield from (node(name) for name in parts if name not in said)
