"""Two lockfiles that came of one, merged: what does not depend on each other is taken from both.

A layer depends on all below it, and all Python packages of a target depend on each other. So most of what two sides do
to one target has to be locked again; targets, and steps without a layer, are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from klock.lockfile.model import (
    ImageLock,
    LockedPackage,
    Lockfile,
    PipLock,
    StepLock,
    TargetLock,
    layer_of,
)
from klock.steps import describe
from klock.values import dataclass

__all__ = ["Merged", "merge"]

T = TypeVar("T")

_BASE: Final = -1
"""The position of what all steps stand on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """`lockfile` is whole and valid. If both sides changed the same of a target, it has our side of the target.

    `dependent` says in words what both sides changed. `preferred` has the packages of both sides, for locking again.
    `theirs` names our packages that only the other side moved.
    """

    lockfile: Lockfile
    dependent: tuple[str, ...] = ()
    preferred: Lockfile
    theirs: tuple[str, ...] = ()


def merge(ancestor: Lockfile | None, ours: Lockfile, theirs: Lockfile) -> Merged:
    """What both sides changed since `ancestor`, which is None where both made a lockfile."""
    if theirs in (ours, ancestor):
        return Merged(lockfile=ours, preferred=ours)
    if ours == ancestor:
        return Merged(lockfile=theirs, preferred=theirs)
    if ancestor is None or len({each.normalisation for each in (ancestor, ours, theirs)}) > 1:
        return Merged(lockfile=ours, preferred=ours, dependent=("the whole lockfile",))
    dependent: list[str] = []
    image = _merge_image(ancestor.image, ours.image, theirs.image, dependent)
    merged, preferred, moved = [], [], []
    for old, mine, other in _targets(ancestor, ours, theirs):
        if other in (mine, old):
            chosen = mine
        elif mine == old:
            chosen = other
        elif old is None or mine is None or other is None:
            dependent += [f"the target {each.target}" for each in (mine, other, old) if each is not None][:1]
            chosen = mine
        else:
            found = list(_dependent(old, mine, other))
            words = f" of {mine.target}" if len(ours.targets) > 1 else ""
            dependent += [f"{each}{words}" for each in found]
            chosen = mine if found else _merge_target(old, mine, other)
            packages, names = _packages(old, mine, other)
            # What we have not locked cannot be upgraded, and need not be.
            locked = {package.name for package in mine.packages if not package.build_only}
            moved += [name for name in names if name in locked and name not in moved]
            preferred.append(replace(mine, packages=packages))
        if chosen is not None:
            merged.append(chosen)
    whole = replace(ours, image=image, targets=tuple(merged))
    by_target = {each.target: each for each in preferred}
    return Merged(
        lockfile=whole,
        dependent=tuple(dict.fromkeys(dependent)),
        preferred=replace(whole, targets=tuple(by_target.get(each.target, each) for each in merged)),
        theirs=tuple(moved) if dependent else (),
    )


def _merge_image(old: ImageLock, mine: ImageLock, other: ImageLock, dependent: list[str]) -> ImageLock:
    values: dict[str, Any] = {}
    for field in fields(ImageLock):
        before, one, two = (getattr(each, field.name) for each in (old, mine, other))
        values[field.name] = two if one == before else one
        if one != two and before not in (one, two):
            dependent.append(field.name.replace("_", "-"))
    return ImageLock(**values)


def _targets(*sides: Lockfile) -> Iterator[tuple[TargetLock | None, TargetLock | None, TargetLock | None]]:
    """Each target as the three have it, in the order of ours and then of theirs."""
    ancestor, ours, theirs = sides
    for target in dict.fromkeys(each.target for side in (ours, theirs, ancestor) for each in side.targets):
        yield ancestor.for_target(target), ours.for_target(target), theirs.for_target(target)


def _dependent(old: TargetLock, mine: TargetLock, other: TargetLock) -> Iterator[str]:
    """What of a target both sides changed in ways that depend on each other, in words; nothing where none."""
    if (
        len({len(each.steps) for each in (old, mine, other)}) > 1
        or old.stages != mine.stages
        or old.stages != other.stages
    ):
        yield "the steps"
        return
    ours, theirs = _changed(old, mine), _changed(old, other)
    for position in sorted(ours & theirs):
        if _at(mine, position) != _at(other, position):
            yield "the base" if position == _BASE else f"step {position + 1} ({describe(mine.steps[position])})"
    for target, own, others in ((mine, ours, theirs), (other, theirs, ours)):
        for position in sorted(own - others):
            step = target.steps[position] if position != _BASE else None
            below = [each for each in others if each < position]
            if step is not None and below and layer_of(step) is not None:
                yield f"step {position + 1} ({describe(step)}), and what is below it"
    pip = [n for n, step in enumerate(old.steps) if isinstance(step, PipLock)]
    if ours & set(pip) and theirs & set(pip) and not ours & theirs & set(pip):
        yield "Python packages, which are resolved together"


def _changed(old: TargetLock, new: TargetLock) -> set[int]:
    positions = {n for n, (a, b) in enumerate(zip(old.steps, new.steps, strict=True)) if a != b}
    return positions | ({_BASE} if (old.base, old.interpreter) != (new.base, new.interpreter) else set())


def _at(target: TargetLock, position: int) -> object:
    return (target.base, target.interpreter) if position == _BASE else target.steps[position]


def _merge_target(old: TargetLock, mine: TargetLock, other: TargetLock) -> TargetLock:
    """Of what is independent, each part of the side that changed it."""

    def taken(part: Callable[[TargetLock], T]) -> T:
        return part(other) if part(mine) == part(old) else part(mine)

    steps: Sequence[StepLock] = [
        theirs if ours == before else ours
        for before, ours, theirs in zip(old.steps, mine.steps, other.steps, strict=True)
    ]
    return replace(
        mine,
        base=taken(lambda each: each.base),
        interpreter=taken(lambda each: each.interpreter),
        steps=tuple(steps),
        packages=taken(lambda each: each.packages),
    )


def _packages(old: TargetLock, mine: TargetLock, other: TargetLock) -> tuple[tuple[LockedPackage, ...], list[str]]:
    """Our packages, which our steps name, and after them those that only the other side moved: of a project the later
    one is preferred. Also the names of these."""
    before, ours, theirs = (_by_name(each.packages) for each in (old, mine, other))
    moved = [
        name for name, package in theirs.items() if ours.get(name) == before.get(name) and package != before.get(name)
    ]
    return (*mine.packages, *(theirs[name] for name in moved)), moved


def _by_name(packages: Sequence[LockedPackage]) -> Mapping[str, LockedPackage]:
    return {f"{package.name}{' ' + package.version if package.build_only else ''}": package for package in packages}
