"""An export while it is written, as steps see it."""

from __future__ import annotations

from dataclasses import field

from klock.lockfile.model import LockedVariable, ServiceLock
from klock.pages.page import Page
from klock.steps.context import Context
from klock.values import dataclass

__all__ = ["Exporting", "stage_label"]


def stage_label(number: int) -> str:
    """What the stage with this number is called in an export: an image's reference is not a name for one."""
    return f"stage-{number}"


@dataclass(slots=True, kw_only=True)
class Exporting:
    """`bundle`: every wheel is shipped. `secret` are the variables with credentials that were set so far, by name, and
    `services` the commands that the image has to start."""

    page: Page
    context: Context
    bundle: bool = False
    secret: dict[str, LockedVariable] = field(default_factory=dict)
    services: list[ServiceLock] = field(default_factory=list)
