"""Notes of an answer, so that the same command line needs no work while nothing changes; see `klock.unchanged`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from klock.lockfile.model import is_forced
from klock.places import DEFAULT
from klock.unchanged.watching import seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from klock.lockfile.model import Lockfile
    from klock.outcomes import Locked
    from klock.places.protocol import Place
    from klock.replay.goal import Goal
    from klock.session import Session
    from klock.unchanged.remembering import Looked
    from klock.unchanged.watching import Seen
    from klock.workshop.protocol import Command

__all__ = [
    "look_before_run",
    "look_before_sync",
    "remember_check",
    "remember_check_of_environment",
    "remember_lock",
    "remember_sync",
]


def look_before_sync(session: Session, lock: Lockfile, goal: Goal, place: Place) -> Looked | None:
    """What the next sync would look at, if it may find nothing to do. A step that is forced runs every time."""
    watched = seen()
    if watched is None or place.converges or any(map(is_forced, goal.lock.steps)):
        return None
    if place.name != DEFAULT and session.named_place is None:
        return None  # that it was found by itself is said each time
    from klock.unchanged.remembering import looked

    return looked(watched, loaded=session.loaded, lock=lock, store=session.store)


def remember_sync(looked_at: Looked, answer: str, session: Session, goal: Goal, place: Place) -> None:
    """The next sync will find what is there now, and say `answer`."""
    from klock.steps.results import record_file_of

    evidence = place.evidence(goal.name)
    if evidence is None:
        return
    made = [record_file_of(key, session.store) for key in goal.cache_keys if key is not None]
    looked_at.remember(
        answer,
        environment=itertools.chain(evidence.files, made),
        settings=evidence.settings,
        image=evidence.image,
        is_so=evidence.holds,
    )


def look_before_run(session: Session, goal: Goal, place: Place, command: Command, services: Sequence[Command]) -> None:
    """Notes how the command starts, so that the next one may start at once. The environment is the locked one, or the
    user does not ask for that."""
    watched = seen()
    # What another place may have of this name would be told.
    if watched is None or services or (session.named_place is None and place.name != DEFAULT):
        return
    if goal.lock.secrets:  # a note is a file
        return
    from klock.lockfile import read
    from klock.places.records import folder_of
    from klock.unchanged.remembering import looked

    launch = place.launch(goal.name, command)
    lock = read(session.lockfile)
    if launch is None or lock is None:
        return
    if looked_at := looked(watched, loaded=session.loaded, lock=lock, store=session.store):
        record = folder_of(session.store, place.name, goal.name) / "record.json"
        looked_at.remember(launch, environment=[record])


def remember_check(watched: Seen | None, answer: str, session: Session, lock: Lockfile) -> None:
    """The next check will find that image and lockfile agree."""
    if watched is not None:
        from klock.unchanged.remembering import looked

        if looked_at := looked(watched, loaded=session.loaded, lock=lock, store=session.store):
            looked_at.remember(answer)


def remember_check_of_environment(
    watched: Seen | None,
    answer: str,
    session: Session,
    lock: Lockfile,
    target: str | None,
    *,
    trust_store: bool,
) -> None:
    """The next check will find that the environment agrees, too: while all that it is made of has the stat it has now.

    Only of the sandbox's environments is there something that shows it. With `trust_store` the files of its layers do
    not count.
    """
    from klock.places import make_place, place_with

    if watched is None:
        return
    goal = session.goal(lock, session.locked_target(lock, target))
    if (session.named_place or place_with(goal.name, session.store)) != DEFAULT:
        return
    from klock.unchanged.remembering import looked

    evidence = make_place(DEFAULT, session.workshop, session.store).evidence(goal.name)
    looked_at = looked(watched, loaded=session.loaded, lock=lock, store=session.store)
    if evidence is not None and looked_at is not None:
        looked_at.remember(answer, environment=evidence.files, is_so=evidence.holds, trust_store=trust_store)


def remember_lock(watched: Seen | None, answer: str, session: Session, locked: Locked) -> None:
    """The next lock will find that the image still gives this lockfile."""
    if watched is None or not locked.is_as_before or locked.notes:
        return
    from klock.layers import NORMALISATION
    from klock.steps.cache_keys import cache_keys
    from klock.steps.results import record_file_of
    from klock.unchanged.remembering import looked

    lock, store = locked.lockfile, session.store
    if looked_at := looked(watched, loaded=session.loaded, lock=lock, store=store):
        parts = [part for target in lock.targets for part in (target, *target.locks_of_stages.values())]
        keys = {key for part in parts for key in cache_keys(part, image=lock.image, normalisation=NORMALISATION)}
        # What steps were seen to make may say that a layer is not theirs.
        looked_at.remember(answer, settings=[record_file_of(key, store) for key in keys if key is not None])
