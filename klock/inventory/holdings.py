"""Everything that a target of a lockfile holds, in parts, each with the step that brings it."""

from __future__ import annotations

from collections.abc import Iterator

from klock.lockfile.model import OciLock, StepLock, TargetLock, layer_of
from klock.steps import describe, kind_of
from klock.steps.at import StepAt
from klock.steps.parts import Part, Sort, part_of_deb
from klock.values import dataclass
from klock.words import counted, some

__all__ = ["Holding", "base_in_words", "holdings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A part, and the position of the step that brings it, from 0; None for the base and for the whole."""

    part: Part
    position: int | None = None


def holdings(lock: TargetLock) -> Iterator[Holding]:
    """The base first, then the steps in order. A later part of a name takes the place of an earlier one."""
    yield from (Holding(part=part) for part in _of_base(lock))
    for position, step in enumerate(lock.steps):
        at: StepAt[StepLock] = StepAt(lock=lock, position=position)
        yield from (Holding(part=part, position=position) for part in kind_of(step).parts(at))
        if (layer := layer_of(step)) is not None:
            layer_part = Part(
                sort=Sort.LAYER, name=describe(step), value=counted(layer.files, "entry"), identity=layer.digest
            )
            yield Holding(part=layer_part, position=position)


def base_in_words(lock: TargetLock) -> str:
    """`python:3.12-slim`, `Debian bookworm with python3`."""
    base = lock.base
    if isinstance(base, OciLock):
        return base.reference
    return f"Debian {base.suite}" + (f" with {some(base.packages)}" if base.packages else "")


def _of_base(lock: TargetLock) -> Iterator[Part]:
    base, words = lock.base, base_in_words(lock)
    if isinstance(base, OciLock):
        digest = base.index_digest or base.manifest.digest
        size = sum(layer.size for layer in base.layers)
        yield Part(sort=Sort.BASE, name=words, value=digest[:19], identity=digest, size=size)
    else:
        yield Part(sort=Sort.BASE, name=words, value=counted(len(base.debs), "package"))
        yield from map(part_of_deb, base.debs)
    if lock.interpreter is not None:
        found = lock.interpreter
        value = ", ".join(filter(None, (f"{found.implementation} {found.version}", found.libc)))
        yield Part(sort=Sort.PYTHON, name="Python", value=value, identity=found.sha256)
    for name, text in base.environment:
        yield Part(sort=Sort.VARIABLE, name=name, value=text)
    yield Part(sort=Sort.SETTING, name="workdir", value=base.working_dir)
    if base.user:
        yield Part(sort=Sort.SETTING, name="user", value=base.user)
