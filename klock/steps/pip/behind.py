"""The packages that a pip step brings, or needs to bring others."""

from __future__ import annotations

from klock.lockfile.model import LockedPackage, PipLock, WheelArtifact
from klock.steps.at import StepAt

__all__ = ["packages_behind"]


def packages_behind(at: StepAt[PipLock]) -> list[LockedPackage]:
    """What the step installs, and what that was built with."""
    by_pin, step = at.lock.packages_by_pin, at.step
    pending = [*step.packages, *(pin for project in step.projects for pin in project.build)]
    seen: dict[str, LockedPackage] = {}
    while pending:
        pin = pending.pop(0)
        if pin not in seen:
            seen[pin] = package = by_pin[pin]
            pending += () if isinstance(package.artifact, WheelArtifact) else package.artifact.build
    return list(seen.values())
