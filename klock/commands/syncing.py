"""What `klock sync` does, once its command line is read."""

from __future__ import annotations

from klock.commands.opening import open_project
from klock.commands.quick import look_before_sync, remember_sync
from klock.printing import say, show
from klock.progress import Progress

__all__ = ["ForceElsewhere", "sync_image"]


class ForceElsewhere(Exception):
    """`--force` was given, but not for `here`."""


def sync_image(
    image: str | None,
    *,
    progress: Progress,
    target: str | None = None,
    engine: str | None = None,
    gpus: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    frozen: bool = False,
    offline: bool = False,
) -> int:
    """Runs `klock sync` with its options and returns the status. Raises KlockError, and ForceElsewhere."""
    from klock.api import refuse_if_unable
    from klock.outcomes import as_is
    from klock.places import converges

    project = open_project(image, offline=offline, progress=progress, engine=engine)
    if force and not converges(project.session.named_place):
        raise ForceElsewhere("--force needs --here: klock makes other environments anew")
    lockfile = project.session.read_lockfile()
    goal, place = project.goal_and_place(lockfile, target, frozen=frozen)
    refuse_if_unable(goal.lock, gpus)
    if dry_run:
        actions = place.plan(goal).actions
        for line in [str(action) for action in actions] or ["nothing to do"]:
            show(line)
        return 0
    looked_at = look_before_sync(project.session, lockfile, goal, place)
    say(str(project.apply(goal, place, force=force)))
    if looked_at is not None:
        remember_sync(looked_at, str(as_is(goal, place)), project.session, goal, place)
    return 0
