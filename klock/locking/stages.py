"""Locking the stages that an image takes files from: those that do not depend on each other side by side.

Each stage is locked in a process of its own. So are the steps of the image before the first that takes files from a
stage. What is told of a stage is told in one piece, and in the order of the file, whoever ends first; and of errors
the one of the earliest stage is raised.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import field, replace
from typing import Generic, TypeVar

from klock.beside import Beside, Report, first_to_end, pass_on
from klock.image.builder import Image
from klock.image.steps import FromContext, ImageStage, RunCommand, Step
from klock.progress import Progress
from klock.steps import kind_of_image_step
from klock.steps.context import Context
from klock.values import dataclass

__all__ = ["Task", "beginning_of", "in_order", "needed_by"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[T]):
    """`run` is called with the context to work in, and what the tasks named in `needs` gave, by name."""

    name: str
    needs: frozenset[str]
    run: Callable[[Context, Mapping[str, T]], T]


def needed_by(stage: ImageStage, earlier: Sequence[ImageStage]) -> frozenset[str]:
    """The names of those of the earlier stages that have to be locked before this one: whose files it takes, with all
    that they take files from, and those that begin with the same work, which is done once."""
    wanted = _origins(stage.steps)
    for each in reversed(earlier):
        shares_work = each.base == stage.base and bool(each.steps) and each.steps[:1] == stage.steps[:1]
        if each.name in wanted or shares_work:
            wanted |= {each.name, *_origins(each.steps)}
    return wanted & {each.name for each in earlier}


def _origins(steps: Sequence[Step]) -> frozenset[str]:
    """The stages that steps take files from."""
    copied = {step.stage for step in steps if isinstance(step, FromContext)}
    mounted = {mount.stage for step in steps if isinstance(step, RunCommand) for mount in step.mounts}
    return frozenset(name for name in copied | mounted if name is not None)


def beginning_of(image: Image) -> ImageStage | None:
    """The steps of an image before the first that takes files from a stage, if they are work of their own."""
    taking = next((n for n, step in enumerate(image.steps) if _origins([step])), len(image.steps))
    steps = image.steps[:taking]
    kinds = [kind_of_image_step(step) for step in steps]
    if image.base is None or not any(kind.runs_commands for kind in kinds):
        return None
    # Packages of Python are resolved for all steps of an image at once.
    if any(kind_of_image_step(step).asks_python or getattr(step, "force", False) for step in image.steps):
        return None
    return ImageStage(name="", base=image.base, steps=steps)


def in_order(tasks: Sequence[Task[T]], context: Context) -> dict[str, T]:
    """What each task gives, by name. Tasks stand behind those that they need.

    Raises the error of the first task, in this order, that fails.
    """
    if len(tasks) > 1 and context.workshop.is_shared:
        return _SideBySide(tasks=tasks, context=context).run()
    found: dict[str, T] = {}
    for task in tasks:
        found[task.name] = task.run(context, found)
    return found


@dataclass(kw_only=True)
class _SideBySide(Generic[T]):
    tasks: Sequence[Task[T]]
    context: Context
    found: dict[str, T] = field(default_factory=dict)
    errors: dict[int, BaseException] = field(default_factory=dict)
    running: dict[int, Beside[T]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    reports: dict[int, list[Report]] = field(default_factory=dict)

    def run(self) -> dict[str, T]:
        with ExitStack() as stack:
            self._start(stack)
            while self.running:
                over = first_to_end(list(self.running.values()), self._note, progress=self.context.progress)
                number = next(number for number, each in self.running.items() if each is over)
                del self.running[number]
                self.ended.add(number)
                try:
                    self.found[self.tasks[number].name] = over.result()
                except BaseException as error:
                    self.errors[number] = error
                    self._end_those_after(number)
                self._tell()
                self._start(stack)
        if self.errors:
            raise self.errors[min(self.errors)]
        return self.found

    def _start(self, stack: ExitStack) -> None:
        first_error = min(self.errors, default=len(self.tasks))
        for number, task in enumerate(self.tasks[:first_error]):
            is_new = number not in self.running and number not in self.ended
            if is_new and task.needs <= self.found.keys() and len(self.running) < len(os.sched_getaffinity(0)):
                beside = Beside(functools.partial(self._run, task), self.context.progress, own=True)
                self.running[number] = stack.enter_context(beside)

    def _run(self, task: Task[T], progress: Progress) -> T:
        given = {name: self.found[name] for name in task.needs}
        return task.run(replace(self.context, progress=progress), given)

    def _end_those_after(self, number: int) -> None:
        for later in [each for each in self.running if each > number]:
            self.running.pop(later).end()
            self.ended.add(later)

    def _note(self, beside: Beside[T], report: Report) -> None:
        number = next(number for number, each in self.running.items() if each is beside)
        self.reports.setdefault(number, []).append(report)
        self._tell()

    def _tell(self) -> None:
        """Passes on what the first task that goes on has told, and those before it; nothing after one that failed."""
        for number in range(min(self.errors, default=len(self.tasks) - 1) + 1):
            if number not in self.ended:
                others = [f"stage {self.tasks[n].name}".rstrip() for n in sorted(self.running) if n != number]
                self.context.progress.beside(others)
            pass_on(self.reports.pop(number, ()), self.context.progress)
            if number not in self.ended:
                return
