"""Two lockfiles compared, as a person would say it: which parts are new, gone, or others than before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final, TypeAlias

from klock.findings import Finding
from klock.inventory.holdings import Holding, holdings
from klock.lockfile.model import ImageLock, Lockfile, TargetLock
from klock.steps.parts import Part, Sort
from klock.values import dataclass, replace

__all__ = ["Change", "Difference", "compare"]

_SAME_VALUE: Final = {
    Sort.BASE: "other packages",
    Sort.PYTHON: "another build",
    Sort.PACKAGE: "another file of this version",
    Sort.DEB: "another file of this version",
    Sort.FILE: "content",
    Sort.VARIABLE: "written otherwise",
    Sort.SERVICE: "another command",
    Sort.REQUEST: "another answer",
    Sort.LAYER: "other files",
}
"""What is said of a part whose value is as before, and whose bytes are not."""
_Named: TypeAlias = dict[tuple[Sort, str], Holding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A part that is new (`before` is None), gone (`after` is None) or another one. `targets` names the targets that
    it is about, when it is not about all that both lockfiles have."""

    before: Part | None
    after: Part | None
    targets: tuple[str, ...] = ()

    @property
    def part(self) -> Part:
        part = self.after or self.before
        assert part is not None
        return part

    @property
    def sort(self) -> Sort:
        return self.part.sort

    @property
    def verb(self) -> str:
        """`add`, `remove`, or `update`."""
        return "add" if self.before is None else "remove" if self.after is None else "update"

    @property
    def what(self) -> str:
        """What is added or removed, or how it changed: `2.0`, `2.0 -> 2.1`, `content`."""
        before, after = self.before, self.after
        if before is None or after is None:
            return self.part.value
        if before.name != after.name and before.value == after.value:
            return f"-> {after.name}"
        if before.value != after.value:
            return f"{before.value} -> {after.value}"
        return _SAME_VALUE.get(self.sort, "changed")

    @property
    def name(self) -> str:
        return self.before.name if self.before is not None else self.part.name

    def __str__(self) -> str:
        """`update numpy 2.0 -> 2.1`"""
        return " ".join(filter(None, (self.verb, self.name, self.what)))

    def to_json(self) -> dict[str, object]:
        """The change without its empty fields, for `--format json`."""
        fields: dict[str, object] = {
            "sort": self.sort.value,
            "change": self.verb,
            "name": self.name,
            "before": self.before.value or self.before.name if self.before else None,
            "after": self.after.value or self.after.name if self.after else None,
            "targets": list(self.targets),
        }
        return {key: value for key, value in fields.items() if value not in (None, [])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All `changes`, by sort and then by name; `added` and `removed` are targets that only one lockfile has. `drift` is
    what an environment has otherwise than the lockfile that it was synced from."""

    changes: tuple[Change, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    drift: tuple[Finding, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes or self.added or self.removed or self.drift)

    def to_json(self) -> dict[str, object]:
        """The table that `--format json` prints."""
        return {
            "changes": [change.to_json() for change in self.changes],
            "targets-added": list(self.added),
            "targets-removed": list(self.removed),
            "drift": [finding.to_json() for finding in self.drift],
        }


def compare(before: Lockfile, after: Lockfile) -> Difference:
    """What `after` has otherwise than `before`."""
    shared = [(old, new) for old in before.targets if (new := after.for_target(old.target)) is not None]
    found: dict[tuple[Part | None, Part | None], list[str]] = {}
    for old, new in shared:
        for change in _compare_targets(old, new):
            found.setdefault((change.before, change.after), []).append(str(new.target))
    changes = [
        Change(before=a, after=b, targets=() if len(targets) == len(shared) else tuple(targets))
        for (a, b), targets in found.items()
    ]
    changes += _of_image(before.image, after.image)
    order = list(Sort)
    names_before = {str(target.target) for target in before.targets}
    names_after = {str(target.target) for target in after.targets}
    return Difference(
        changes=tuple(sorted(changes, key=lambda change: (order.index(change.sort), change.name))),
        added=tuple(sorted(names_after - names_before)),
        removed=tuple(sorted(names_before - names_after)),
    )


def _compare_targets(before: TargetLock, after: TargetLock) -> Iterator[Change]:
    old, new = _by_name(holdings(before)), _by_name(holdings(after))
    keys = dict.fromkeys([*old, *new])
    differing = [key for key in keys if _part(old, key) != _part(new, key)]
    # A layer of a step of which something else differs is another one for that reason.
    explained = {
        (side is new, position)
        for key in differing
        for side in (old, new)
        if key[0] is not Sort.LAYER and key in side and (position := side[key].position) is not None
    }
    changes = []
    for key in differing:
        if key[0] is Sort.LAYER and any(
            (side is new, side[key].position) in explained for side in (old, new) if key in side
        ):
            continue
        changes.append(Change(before=_part(old, key), after=_part(new, key)))
    yield from _paired(changes)


def _by_name(found: Iterable[Holding]) -> _Named:
    """The last of a name holds. Of steps that are told in the same words, each is one of its own."""
    named: _Named = {}
    for holding in found:
        part, key = holding.part, (holding.part.sort, holding.part.name)
        if part.sort in (Sort.STEP, Sort.SERVICE, Sort.LAYER):
            number = 1
            while key in named:
                number += 1
                key = (part.sort, f"{part.name} ({number})")
        named[key] = replace(holding, part=replace(part, name=key[1]))
    return named


def _part(side: Mapping[tuple[Sort, str], Holding], key: tuple[Sort, str]) -> Part | None:
    return side[key].part if key in side else None


def _paired(changes: Sequence[Change]) -> Iterator[Change]:
    """One base that is there instead of another is one change, and so is a step that is told in other words."""
    rest: dict[tuple[Sort, str], tuple[list[Part], list[Part]]] = {}
    for change in changes:
        if change.sort in (Sort.BASE, Sort.STEP, Sort.SERVICE) and change.verb != "update":
            method = "" if change.sort is Sort.BASE else change.name.partition(" ")[0]
            gone, new = rest.setdefault((change.sort, method), ([], []))
            (new if change.before is None else gone).append(change.part)
        elif change.sort is not Sort.LAYER or change.verb == "update":
            yield change
    for gone, new in rest.values():
        for before, after in zip_longest(gone, new):
            yield Change(before=before, after=after)


def _of_image(before: ImageLock, after: ImageLock) -> Iterator[Change]:
    """What is said of the image as a whole."""
    for name in ("python_path", "install_cmd", "context", "exclude_newer"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            label = name.replace("_", "-")
            yield Change(before=_setting(label, old), after=_setting(label, new))


def _setting(name: str, value: str | None) -> Part | None:
    return None if value is None else Part(sort=Sort.SETTING, name=name, value=value)
