"""`klock sync`: make the environment be what the lockfile says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from klock.commands.session import (
    Session,
    engine_option,
    gpus_option,
    image_argument,
    offline_option,
    open_session,
    progress_options,
    target_option,
)
from klock.digests import Digest, digest_of_bytes
from klock.errors import KlockError
from klock.lockfile.model import Lockfile, TargetLock
from klock.plan import Plan, make_plan
from klock.progress import Progress
from klock.unchanged.watching import seen
from klock.words import counted

if TYPE_CHECKING:
    from klock.unchanged.remembering import Looked

__all__ = ["sync", "sync_environment"]

_ON: Final = {"podman": "on podman", "docker": "on docker", "here": "in this container"}


@click.command()
@image_argument
@target_option
@engine_option
@gpus_option
@click.option("--dry-run", is_flag=True, help="Print the plan, do nothing.")
@click.option("--force", is_flag=True, help="With --here: do the locked steps over what cannot be taken back.")
@click.option("--frozen", is_flag=True, help="Use the lockfile as it is, even if the image has changed.")
@offline_option
@progress_options
def sync(
    image: str | None,
    *,
    target: str | None,
    engine: str | None,
    gpus: str | None,
    dry_run: bool,
    force: bool,
    frozen: bool,
    offline: bool,
    progress: Progress,
) -> int:
    """Make the environment be what the lockfile says, byte for byte.

    Only steps that have not made their locked layer on this machine run. What was changed in the environment since the
    last sync is put back. A stale lockfile is refused.
    """
    session = open_session(image, offline=offline, progress=progress, engine=engine)
    if force and session.named_engine != "here":
        raise click.UsageError("--force goes with --here: other environments are made anew")
    lock = session.read_lockfile()
    if not frozen:
        from klock.commands.judge import refuse_stale

        refuse_stale(session, lock)
    locked = session.locked_target(lock, target)
    session = session.with_engine(locked)
    _refuse_if_unable(locked, gpus)
    if dry_run:
        for line in _planned(session, lock, locked):
            click.echo(line)
        return 0
    looked_at = _look(session, lock, locked)
    sync_environment(session, lock, locked, force=force)
    if looked_at is not None:
        _remember_unchanged(looked_at, session, lock, locked)
    return 0


def _look(session: Session, lock: Lockfile, locked: TargetLock) -> Looked | None:
    """What the next sync would look at, if it may find nothing to do. A step that is forced runs every time."""
    watched = seen()
    if watched is None or session.engine.name == "here" or any(getattr(s, "force", False) for s in locked.steps):
        return None
    if session.engine.name != "sandbox" and session.named_engine is None:
        return None  # that it was found by itself is said each time
    from klock.unchanged.remembering import looked

    return looked(watched, loaded=session.loaded, lock=lock, store=session.store)


def _remember_unchanged(looked_at: Looked, session: Session, lock: Lockfile, locked: TargetLock) -> None:
    """The next sync will find what is there now."""
    from klock.made import record_of

    name, said = session.environment_name(locked), _said(session, locked, "unchanged")
    made = [record_of(key, session.store) for key in _keys(lock, locked) if key is not None]
    if session.engine.name == "sandbox":
        from klock.workshop import SandboxWorkshop

        assert isinstance(session.engine, SandboxWorkshop)
        environment = session.engine.environment(name)
        behind = itertools.chain(environment.files_behind(), made)
        looked_at.remember(said, environment=behind, is_so=environment.is_clean)
        return
    from klock.places.containers import ContainerEngine

    assert isinstance(session.engine, ContainerEngine)
    image = session.engine.environment(name)
    socket, settings = session.engine.lasting_socket, session.engine.settings_files
    if socket is not None and settings is not None:
        looked_at.remember(
            said,
            environment=[image.note_file, *made],
            settings=settings,
            image=(socket, image.tag),
            is_so=image.is_clean,
        )


def _refuse_if_unable(locked: TargetLock, gpus: str | None) -> None:
    """Before anything is fetched for it."""
    if gpus is not None or locked.target.accelerator != "cpu":
        from klock.gpu.choice import devices_of, refuse_if_unable

        refuse_if_unable(locked, gpus)
        if gpus is not None:
            devices_of(locked, gpus)


def _planned(session: Session, lock: Lockfile, locked: TargetLock) -> list[str]:
    from klock.places.here import HereEngine

    keys = _keys(lock, locked)
    if isinstance(session.engine, HereEngine):
        from klock.places.here.converging import plan_in_place

        return plan_in_place(locked, keys=keys, engine=session.engine).lines(locked)
    return [str(action) for action in _plan(session, locked, keys).actions]


def sync_environment(session: Session, lock: Lockfile, locked: TargetLock, *, force: bool = False) -> None:
    """Carries out the plan for the environment of `locked`, a part of `lock`, alone: a second klock process waits."""
    if session.engine.name == "here":
        changes, runs = _converge(session, lock, locked, force=force)
        record = session.engine.environment(session.environment_name(locked)).record
        if (record or {}).get("fingerprint") != locked.fingerprint:
            click.echo("this container was forced: it is not what is locked", err=True)
            return
    else:
        changes, runs = _replace(session, lock, locked)
    ran = f", {runs} of {counted(len(locked.layers), 'step')} ran" if runs else ""
    click.echo(_said(session, locked, "synced" if changes else "unchanged", ran), err=True)


def _said(session: Session, locked: TargetLock, state: str, ran: str = "") -> str:
    where = "" if session.engine.name == "sandbox" else f" {_ON[session.engine.name]}"
    return f"environment {state}{where}: {locked.target}{ran}, {locked.fingerprint}"


def _replace(session: Session, lock: Lockfile, locked: TargetLock) -> tuple[bool, int]:
    """Whether anything changed, and how many steps ran."""
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
    return not plan.changes_nothing, plan.runs


def _converge(session: Session, lock: Lockfile, locked: TargetLock, *, force: bool) -> tuple[bool, int]:
    from klock.places.here import HereEngine
    from klock.places.here.converging import converge
    from klock.replay import environment_record

    assert isinstance(session.engine, HereEngine)
    half_way = (
        "this container may be between two steps: the next `klock sync --here` finishes what was begun, or undoes it"
    )
    try:
        plan = converge(
            locked,
            keys=_keys(lock, locked),
            engine=session.engine,
            record=environment_record(locked, digest_of_bytes(session.lockfile.read_bytes())),
            context=session.context,
            force=force,
        )
    except KeyboardInterrupt:
        click.echo(f"interrupted: {half_way}", err=True)
        raise SystemExit(130) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise KlockError(f"{where}{error.strerror or error}", hint=half_way) from error
    return not plan.changes_nothing, len(plan.run)


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
    from klock.layers import NORMALISATION

    return step_keys(locked, image=lock.image, normalisation=NORMALISATION)
