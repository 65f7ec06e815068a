"""What a sync takes away from an environment: users want to know before it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klock.values import replace

if TYPE_CHECKING:
    from klock.places.protocol import Place
    from klock.replay.goal import Goal
    from klock.session import Session

__all__ = ["losses"]


def losses(session: Session, goal: Goal, place: Place) -> list[str]:
    """A sentence for each loss: what is no longer locked, and what commands changed in the environment. Empty where
    finding out would take much work."""
    from klock.inventory.changes import compare
    from klock.places.records import synced_lock
    from klock.words import first_of

    # A command's changes in a container go with the container, and a sync of `--here` says itself what it takes back.
    if place.has_containers or place.converges or (synced := place.synced(goal.name)) is None:
        return []
    found = []
    if synced != goal.lock.fingerprint:
        before = synced_lock(session.store, place.name, goal.name, goal.lock.target, synced)
        if before is not None:
            difference = compare(before, replace(before, targets=(goal.lock,)))
            gone = [change.part.name for change in difference.changes if change.after is None]
            found += [f"removes what is no longer locked: {first_of(gone)}"] if gone else []
        if not place.is_clean(goal.name):
            found.append("undoes what was changed in the environment since the last sync")
    elif not place.is_clean(goal.name):
        from klock.drift import compare as compare_environment

        drift = compare_environment(place.observe(goal), leave_out=goal.lock.leave_out)
        paths = [finding.path for finding in drift if finding.path is not None]
        found += [f"undoes what was changed in the environment: {first_of(paths)}"] if paths else []
    return found
