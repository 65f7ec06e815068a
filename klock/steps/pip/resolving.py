"""The pip steps of a target while it is locked: resolved together, each locked in the environment that it finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from klock.image.install_command import with_install_options
from klock.lockfile.model import PipLock, TargetLock, WheelArtifact
from klock.packages.indexes import DEFAULT_INDEX
from klock.packages.interpreter import TargetPython
from klock.packages.question import Question, World
from klock.packages.resolution import Reconsidered, Resolving
from klock.steps import kind_of
from klock.steps.locking import BackTo, Locking
from klock.steps.pip.requests import pip_positions, pip_requests, world_of

__all__ = ["PipSteps"]


class PipSteps:
    """Completes the pip steps of a target in order. What the previous lockfile has is kept while it holds."""

    def __init__(self, locking: Locking) -> None:
        self._positions = pip_positions(locking.image.steps)
        self._kept = _kept_steps(locking)
        self._resolving: Resolving | None = None
        self._python: TargetPython | None = None
        self._warned = 0

    def complete(self, locking: Locking) -> PipLock:
        """The pip step that is next. The interpreter and the packages so far are put into `locking.lock`.

        Raises KlockError, or BackTo when an earlier step has to be locked anew.
        """
        previous, position = locking.previous, locking.position
        if previous is not None and position in self._kept:
            at = self._kept[position]
            if _holds(previous, at, locking):
                locking.lock = replace(locking.lock, interpreter=previous.interpreter, packages=previous.packages)
                return cast(PipLock, previous.steps[at])
            self._kept = {}
            if position != self._positions[0]:
                raise BackTo(self._positions[0])
        return self._resolve(locking)

    def _resolve(self, locking: Locking) -> PipLock:
        self._resolving = resolving = self._resolving or Resolving(question=_question_of(locking))
        number = self._positions.index(locking.position)
        try:
            resolving.lock_step(number, lambda: self._world(locking))
        except Reconsidered as error:
            raise BackTo(self._positions[error.step]) from None
        for warning in resolving.warnings[self._warned :]:
            locking.context.progress.warn(warning)
        self._warned = len(resolving.warnings)
        locking.lock = replace(locking.lock, interpreter=resolving.python.interpreter, packages=resolving.packages)
        draft = locking.drafts[locking.position]
        assert isinstance(draft, PipLock)
        return replace(draft, packages=resolving.pins(number), projects=resolving.projects(number))

    @contextmanager
    def _world(self, locking: Locking) -> Iterator[World]:
        """The environment as the next step finds it. Its Python is asked as it is before the first pip step."""
        context = locking.context
        with locking.workspace() as workspace:
            self._python = self._python or locking.probe(workspace, locking.drafts[locking.position])
            environment = (locking.lock.base.id, *locking.lock.layers)
            yield world_of(context, workspace=workspace, python=self._python, environment=environment)


def _question_of(locking: Locking) -> Question:
    context, steps = locking.context, locking.image.steps
    drafted = replace(locking.lock, steps=locking.drafts)
    requests = pip_requests(with_install_options(steps, locking.image.install_cmd), drafted, context)
    return Question(
        requests=tuple(requests),
        previous=() if locking.previous is None else locking.previous.packages,
        upgrade=locking.upgrade.everything,
        upgrade_packages=locking.upgrade.packages,
        default_index=context.index_url or DEFAULT_INDEX,
        exclude_newer=locking.image_lock.exclude_newer,
        keep_base=context.keep_base,
    )


def _kept_steps(locking: Locking) -> Mapping[int, int]:
    """Where the previous lockfile has the pip steps, by their positions now, if the same is asked for."""
    previous = locking.previous
    if previous is None or locking.upgrade or locking.previous_image != locking.image_lock:
        return {}
    old = {position: step for position, step in enumerate(previous.steps) if isinstance(step, PipLock)}
    new = {position: step for position, step in enumerate(locking.drafts) if isinstance(step, PipLock)}
    if [kind_of(step).as_draft(step) for step in old.values()] != [*new.values()]:
        return {}
    if any(step.projects for step in old.values()) or previous.base != locking.lock.base:
        return {}
    if locking.context.keep_base and any(package.replaces is not None for package in previous.packages):
        return {}
    return dict(zip(new, old, strict=True))


def _holds(previous: TargetLock, position: int, locking: Locking) -> bool:
    """Whether the previous lockfile's pip step at `position` found what the next step finds, as far as that counts: the
    first one decides what the base has, and others what sources are built with."""
    by_pin, before = previous.packages_by_pin, replace(previous, steps=previous.steps[:position])
    is_first = not any(isinstance(step, PipLock) for step in before.steps)
    packages = (by_pin[pin] for pin in cast(PipLock, previous.steps[position]).packages)
    if not is_first and all(isinstance(package.artifact, WheelArtifact) for package in packages):
        return True
    return before.layers == locking.lock.layers and before.environment == locking.lock.environment
