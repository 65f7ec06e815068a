"""Doing a step once over its locked predecessors: the one way in which layers come about, at lock and at replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.workshop.protocol import Layer, Workspace

__all__ = ["perform_step"]


def perform_step(
    at: StepAt[Any],
    context: Context,
    *,
    varied: bool = False,
    look: Callable[[Workspace], None] = lambda workspace: None,
) -> Layer:
    """The layer that the step makes, which is in the store then. What is below it is there. Raises StepFailed.

    `varied`: see `klock.workshop.protocol.Workshop.open`. `look` is called when the step is done and before its layer
    is taken.
    """
    kind = kind_of(at.step)
    with context.workshop.open(at.lock.base.id, at.below, varied=varied) as workspace:
        kind.perform(at, workspace, context)
        look(workspace)
        return workspace.snapshot(leave_out=kind.leave_out(at.step))
