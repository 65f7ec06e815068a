"""`klock sync`: make the environment be what the lockfile says."""

from __future__ import annotations

from collections.abc import Sequence

import click

from klock.commands.session import (
    Session,
    engine_option,
    image_argument,
    offline_option,
    open_session,
    progress_options,
    target_option,
)
from klock.digests import Digest, digest_of_bytes
from klock.lockfile.model import Lockfile, TargetLock
from klock.plan import Plan, counted, make_plan
from klock.progress import Progress

__all__ = ["sync", "sync_environment"]


@click.command()
@image_argument
@target_option
@engine_option
@click.option("--dry-run", is_flag=True, help="Print the plan, do nothing.")
@click.option("--frozen", is_flag=True, help="Use the lockfile as it is, even if the image has changed.")
@offline_option
@progress_options
def sync(
    image: str | None,
    *,
    target: str | None,
    engine: str | None,
    dry_run: bool,
    frozen: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Make the environment be what the lockfile says, byte for byte.

    Only steps that have not made their locked layer on this machine run. What was changed in the environment since the
    last sync is put back. A stale lockfile is refused.
    """
    session = open_session(image, offline=offline, progress=progress, engine=engine)
    lock = session.read_lockfile()
    if not frozen:
        from klock.commands.judge import refuse_stale

        refuse_stale(session, lock)
    locked = session.locked_target(lock, target)
    if dry_run:
        for action in _plan(session, locked, _keys(lock, locked)).actions:
            click.echo(str(action))
        return 0
    sync_environment(session, lock, locked)
    return 0


def sync_environment(session: Session, lock: Lockfile, locked: TargetLock) -> None:
    """Carries out the plan for the environment of `locked`, a part of `lock`, alone: a second klock process waits."""
    with session.store.lock(f"environment-{session.environment_name(locked)}"):
        keys = _keys(lock, locked)
        plan = _plan(session, locked, keys)
        if not plan.changes_nothing:
            from klock.replay import carry_out

            session.engine.check()
            carry_out(
                plan,
                locked,
                keys=keys,
                environment=session.engine.environment(session.environment_name(locked)),
                lock_digest=digest_of_bytes(session.lockfile.read_bytes()),
                context=session.context,
            )
    state = "unchanged" if plan.changes_nothing else "synced"
    ran = f", {plan.runs} of {counted(len(locked.layers), 'step')} ran" if plan.runs else ""
    where = "" if session.engine.name == "sandbox" else f" on {session.engine.name}"
    click.echo(f"environment {state}{where}: {locked.target}{ran}, {locked.fingerprint}", err=True)


def _plan(session: Session, locked: TargetLock, keys: Sequence[Digest | None]) -> Plan:
    environment = session.engine.environment(session.environment_name(locked))
    return make_plan(
        locked,
        keys=keys,
        engine=session.engine,
        store=session.store,
        record=environment.record,
        clean=environment.is_clean(),
    )


def _keys(lock: Lockfile, locked: TargetLock) -> list[Digest | None]:
    from klock.keys import step_keys
    from klock.layers.normalisation import NORMALISATION

    return step_keys(locked, image=lock.image, normalisation=NORMALISATION)
