"""One target while it is locked, as steps see it: what is locked so far, and what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from klock.errors import ImageError
from klock.image.builder import Image
from klock.lockfile.model import ImageLock, StepLock, TargetLock
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.values import dataclass
from klock.workshop.protocol import Workspace

if TYPE_CHECKING:
    from klock.packages import TargetPython

__all__ = ["BackTo", "Locking", "Upgrade"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What may move although the previous lockfile still satisfies the image."""

    everything: bool = False
    packages: frozenset[str] = frozenset()
    base: bool = False

    def __bool__(self) -> bool:
        return self.everything or self.base or bool(self.packages)


class BackTo(Exception):
    """Raised while a step is completed: the steps from `position` on have to be locked anew, as more is known now."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


@dataclass(slots=True, kw_only=True)
class Locking:
    """`lock` holds the steps that are locked so far, `drafts` are the drafts of all. `previous` is the target's part of
    the lockfile before. `open_over` makes what is missing of a lock and opens a workspace over all of it."""

    image: Image
    image_lock: ImageLock
    previous: TargetLock | None
    previous_image: ImageLock | None
    upgrade: Upgrade
    context: Context
    lock: TargetLock
    drafts: tuple[StepLock, ...]
    open_over: Callable[[TargetLock, Context], AbstractContextManager[Workspace]]
    _shared: dict[object, Any] = field(default_factory=dict)

    @property
    def position(self) -> int:
        """Of the step that is next."""
        return len(self.lock.steps)

    @property
    def previous_steps(self) -> tuple[StepLock, ...]:
        return () if self.previous is None else self.previous.steps

    def at(self, step: StepLock) -> StepAt[Any]:
        """`step` as the next one."""
        return self.context.at(replace(self.lock, steps=(*self.lock.steps, step)), self.position)

    def add(self, step: StepLock) -> None:
        self.lock = replace(self.lock, steps=(*self.lock.steps, step))

    def workspace(self) -> AbstractContextManager[Workspace]:
        """A workspace over all steps so far."""
        return self.open_over(self.lock, self.context)

    def go_back(self, position: int) -> None:
        """Makes the step at `position`, which is locked, the next one."""
        self.lock = replace(self.lock, steps=self.lock.steps[:position])

    def shared(self, kind: object, begin: Callable[[], T]) -> T:
        """What a kind keeps for all of its steps: `begin` is called with the first of them."""
        if kind not in self._shared:
            self._shared[kind] = begin()
        found: T = self._shared[kind]
        return found

    def probe(self, workspace: Workspace, draft: StepLock) -> TargetPython:
        """The Python that packages go into, at the next step, `draft`. Raises ImageError when there is none."""
        from klock.packages import KnownPythons, probe_interpreter

        at = self.at(draft)
        lock = self.lock
        python = probe_interpreter(
            workspace,
            python_path=self.image.python_path,
            variables=at.open_variables(self.context.environ),
            machine=lock.target.machine,
            known=KnownPythons(store=self.context.store, environment=(lock.base.id, lock.target.machine, *lock.layers)),
        )
        if python is None:
            raise ImageError(
                f"{at.name}: there is no Python in the environment yet",
                hint="choose a base with Python, or install one in an earlier step: apt_install(['python3'])",
            )
        return python
