"""The verbs as a library: what the command line does, from Python.

    import klock

    klock.lock("kimage.py")
    klock.sync("kimage.py")
    done = klock.run(["python3", "-c", "print(1)"], image="kimage.py", capture_output=True)

Each function loads the image anew; `Project` loads it once. Without `image` it is the one that the command line would
take in the current folder. Nothing is printed: `progress` is told what happens. No variable of this process is changed,
and every error is a `klock.KlockError`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Unpack

from klock.outcomes import Checked, Locked, Synced, as_is
from klock.session import Options, Session, open_session
from klock.values import replace

# What does the work is imported when there is some: a verb that finds nothing to do takes little.
if TYPE_CHECKING:
    import subprocess

    from klock.image.builder import Image
    from klock.lockfile.model import Lockfile, TargetLock
    from klock.places.protocol import Place
    from klock.replay.goal import Goal
    from klock.replay.plan import Plan
    from klock.status import Status
    from klock.upstream.outdated import Outlook
    from klock.workshop.protocol import Command, Network

__all__ = ["Checked", "Locked", "Project", "Synced", "check", "lock", "plan", "run", "sync"]

OnStart: TypeAlias = "Callable[[Goal, Place, Command, Sequence[Command]], None]"
"""What is told a command and its services before they start."""

ImageSource: TypeAlias = "Image | str | os.PathLike[str] | None"
"""An image, or the file that defines it, `FILE[:NAME]`; None is the project's own."""


class Project:
    """An image that was loaded, with its settings and its lockfile."""

    def __init__(self, image: ImageSource = None, **options: Unpack[Options]) -> None:
        """Raises KlockError when the image or the settings cannot be read. Options: `klock.session.Options`."""
        self.session: Session = open_session(image, **options)
        self.on_start: OnStart = lambda *_: None
        """Is told what `run` is about to start, where the command has this process's streams."""

    # -- lock

    def lock(
        self,
        *,
        upgrade: bool = False,
        upgrade_packages: str | Iterable[str] = (),
        upgrade_base: bool = False,
        keep_base: bool = False,
        strict: bool = False,
        exclude_newer: str | None = None,
        image_digest: bool = False,
        dry_run: bool = False,
    ) -> Locked:
        """Resolves the image and writes the lockfile. What is locked and still satisfies the image is kept.

        `upgrade` lets everything move, `upgrade_packages` the packages of these names, `upgrade_base` the base's tag.
        With `keep_base` nothing may replace a Python package that the base has, as with the setting `keep-base`; with
        `strict` no two packages may have one path with different bytes. Files that came to a package index after
        `exclude_newer`, a date or an RFC 3339 moment, do not count; the lockfile keeps it until another one is given,
        or until `upgrade`. With `image_digest` the lockfile names the digest of each target as an OCI image, by which a
        registry has it when it is pushed. With `dry_run` the file stays as it is. Raises KlockError; the file is as it
        was then.
        """
        from klock.image.arguments import texts
        from klock.relocking import relock

        locked, self.session = relock(
            self.session,
            upgrade=upgrade,
            upgrade_packages=texts("lock", "upgrade_packages", upgrade_packages),
            upgrade_base=upgrade_base,
            keep_base=keep_base or self.session.settings.keep_base,
            strict=strict,
            exclude_newer=exclude_newer,
            image_digest=image_digest,
            dry_run=dry_run,
        )
        return locked

    # -- plan and sync

    def plan(self, *, target: str | None = None, gpus: str | int | None = None, frozen: bool = False) -> Plan:
        """What `sync` would do. Changes nothing; raises as `sync` does."""
        goal, place = self.goal_and_place(self.session.read_lockfile(), target, frozen=frozen)
        refuse_if_unable(goal.lock, gpus)
        return place.plan(goal)

    def sync(
        self, *, target: str | None = None, gpus: str | int | None = None, force: bool = False, frozen: bool = False
    ) -> Synced:
        """Makes the environment be what is locked, byte for byte. A second process that does the same waits.

        `target` is such as `linux/amd64/cpu`, by default what this machine is. `gpus` names the GPUs that the machine
        must have: `all`, a number, `none`, or CDI devices. `force` goes with a running container. Raises StaleLockError
        when the image is no longer what was locked, unless `frozen`; StepFailed when a step does not make its locked
        layer; EngineError when this machine cannot do it.
        """
        goal, place = self.goal_and_place(self.session.read_lockfile(), target, frozen=frozen)
        refuse_if_unable(goal.lock, gpus)
        return self.apply(goal, place, force=force)

    def apply(self, goal: Goal, place: Place, *, force: bool = False) -> Synced:
        """The work of `sync`, for a goal and a place that are known."""
        from klock.logs import hinting_at_logs
        from klock.losses import losses

        for lost in losses(self.session, goal, place):
            self.session.progress.note(lost)
        with self.session.store.in_use(), hinting_at_logs(self.session.context.progress):
            applied = place.apply(goal, self.session.context, force=force)
            self._leave_note(goal, place, changed=applied.changed)
        return replace(as_is(goal, place), changed=applied.changed, ran=applied.ran, is_locked=applied.is_locked)

    def _leave_note(self, goal: Goal, place: Place, *, changed: bool) -> None:
        """For `klock status` and `klock diff --env`, which ask what an environment was synced from."""
        import time

        from klock.digests import digest_of_bytes
        from klock.places.records import Note, has_record, read_note, write_note

        session = self.session
        if not has_record(session.store, place.name, goal.name):
            return
        note = Note(lockfile=session.lockfile.absolute(), target=str(goal.lock.target), synced=time.time())
        if changed or read_note(session.store, place.name, goal.name) is None:
            text = session.lockfile.read_bytes()
            if digest_of_bytes(text) == goal.lock_digest:
                write_note(session.store, place.name, goal.name, note, text=text)

    def goal_and_place(self, lockfile: Lockfile, target: str | None, *, frozen: bool) -> tuple[Goal, Place]:
        """What the environment is to be, and where it lives. Raises StaleLockError unless `frozen`."""
        session = self.session
        self.refuse(lockfile, frozen=frozen)
        goal = session.goal(lockfile, session.locked_target(lockfile, target))
        return goal, session.place_of(goal)

    def read_lockfile(self, *, frozen: bool = False) -> Lockfile:
        """The lockfile, if it is what the image gives. Raises LockfileError, and as `refuse` does."""
        lockfile = self.session.read_lockfile()
        self.refuse(lockfile, frozen=frozen)
        return lockfile

    def refuse(self, lockfile: Lockfile, *, frozen: bool) -> None:
        """Raises StaleLockError with every finding when image and lockfile disagree.

        With `frozen` nobody looks at the image. Then it is KlockError for a lockfile that no trusted key signed, where
        the settings name such keys.
        """
        session = self.session
        if frozen:
            if session.settings.trusted_keys:
                from klock.signing import verify

                verify(session.lockfile, session.settings.trusted_keys)
            return
        from klock.locking.staleness import refuse_stale

        refuse_stale(
            lockfile,
            loaded=session.loaded,
            settings=session.settings,
            environ=session.environ,
            store=session.store,
            file=session.lockfile,
        )

    # -- check

    def check(
        self,
        *,
        environment: bool = False,
        container: str | None = None,
        upstream: bool = False,
        vault: str | os.PathLike[str] | None = None,
        advisories: str | os.PathLike[str] | None = None,
        seconds: float = 60,
        target: str | None = None,
        deep: bool = False,
        trust_store: bool = False,
    ) -> Checked:
        """Says where image, lockfile and, with `environment`, the synced environment disagree. Uses no network, unless
        `upstream`: then registries, indexes, archives and the servers of shell steps are asked what became of what is
        locked, for at most `seconds`; a finding says if the store or `vault`, a folder or an address, still has it.
        `advisories` is a folder of advisories in the OSV format.

        `container` names a container that was started from the environment's image, which is compared instead. A file
        of the environment counts as unchanged while its stat is as klock noted it; with `deep` every file is read.
        With `trust_store` the layers in the store count as they were made, and only what was written over them is
        looked at.
        """
        from klock.checking import check

        return check(
            self.session,
            environment=environment,
            container=container,
            upstream=upstream,
            vault=None if vault is None else os.fspath(vault),
            advisories=None if advisories is None else Path(advisories),
            seconds=seconds,
            target=target,
            deep=deep,
            trust_store=trust_store,
        )

    # -- look

    def outdated(self, *, seconds: float = 60) -> Outlook:
        """What of the lockfile has a newer version upstream, which is asked for at most `seconds` in all.

        What could not be found out is in the notes of what is returned. Changes nothing.
        """
        from klock.asking import Asker
        from klock.inventory.reasons import Lines
        from klock.upstream.outdated import look_for_newer

        session, lockfile = self.session, self.session.read_lockfile()
        lines = Lines(steps=session.loaded.locations, base=session.loaded.base_location)
        context = replace(
            session.context, keep_base=session.settings.keep_base, exclude_newer=session.settings.exclude_newer
        )
        asker = Asker(session.store, ca_bundle=session.ca_bundle, seconds=seconds, offline=session.offline)
        context.progress.begin("ask upstream")
        with session.store.in_use():
            try:
                found = look_for_newer(lockfile, session.loaded.image, lines, context, asker)
            finally:
                asker.close()
        context.progress.done(f"{found.looked_at} parts")
        return found

    def status(self) -> Status:
        """What is here: the lockfile and the environments, and whether they agree. Reads no file of an environment."""
        from klock.status import status_of

        return status_of(self.session)

    # -- run

    def run(
        self,
        command: Sequence[str],
        *,
        variables: Mapping[str, str] | None = None,
        mounts: str | Iterable[str] = (),
        working_dir: str | None = None,
        network: str = "host",
        target: str | None = None,
        gpus: str | int | None = None,
        devices: str | Iterable[str] = (),
        host_pid: bool = False,
        host_ipc: bool = False,
        shm_size: int | str | None = None,
        sync: bool = True,
        frozen: bool = False,
        capture_output: bool = False,
        check: bool = False,
        takes_over: bool = False,
        wait_for: int | str | Iterable[int | str] = (),
        wait_seconds: int | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a command in the environment, with its variables, working directory and services, to its end.

        Without a command the image's own runs, its ENTRYPOINT and CMD.

        An environment that is not the locked one is synced first, unless `sync` is False. `variables` are set for the
        command and the services. Each of `mounts` shows a host path in the environment: `SOURCE:TARGET[:ro]`. They
        reach what this machine does, or nothing but each other with the `network` "none".

        It sees `devices`: CDI names, and paths below /dev. With `host_pid` it has the machine's process ids, with
        `host_ipc` the machine's shared memory; `shm_size` limits a /dev/shm of its own, in bytes or as `8g`.

        The command has this process's stdin, stdout and stderr; with `capture_output` an empty stdin, and what it
        prints is in the result, as from `subprocess.run`. With `check` a status other than 0 raises CalledProcessError.

        The command begins when the services are ready that say when they are (`wait_for` of `run_bash`), and all of
        `wait_for`: ports that something listens on, or commands that succeed. After `wait_seconds`, by default 60, it
        never begins, and its status is 124.

        `takes_over` is for a process that only ends afterwards: where it can, the command takes its place (exec(3)), as
        the entrypoint of a container should. Nothing returns then.
        """
        import subprocess
        from functools import partial

        from klock.errors import KlockError
        from klock.image.arguments import texts, wait_of, words
        from klock.image.arguments import variables as checked
        from klock.running import Wishes, captured, devices_for, execute, parse_mounts, parse_shm_size

        session = self.session
        command, mounts = words("run", "command", command), texts("run", "mounts", mounts)
        given = dict(checked("run", variables or {}, name="variables"))
        lockfile = session.read_lockfile()
        goal = session.goal(lockfile, session.locked_target(lockfile, target))
        if not (command := command or goal.lock.settings.start_command):
            raise KlockError("no command was given, and the image has none", hint="klock run -- COMMAND")
        place = session.place_of(goal)
        wishes = Wishes(
            variables=given,
            # Nothing can be mounted into a running container.
            mounts=parse_mounts([*_besides(mounts, () if place.converges else session.settings.mounts), *mounts]),
            working_dir=working_dir,
            network=_network(network),
            wait_for=tuple(
                wait_of(each, what="wait_for") for each in ([wait_for] if isinstance(wait_for, int | str) else wait_for)
            ),
            wait_seconds=wait_seconds,
            devices=devices_for(goal.lock, _words_for(gpus), place, texts("run", "devices", devices)),
            host_pid=host_pid,
            host_ipc=host_ipc,
            shm_size=parse_shm_size(shm_size, host_ipc=host_ipc),
        )
        # Before a sync would take the environment's place back: somebody may want to know what became of it.
        fingerprint = place.synced(goal.name)
        if not sync:
            if fingerprint is None:
                raise KlockError("there is no environment yet", hint="run `klock sync`")
        else:
            self.refuse(lockfile, frozen=frozen)
            if fingerprint != goal.lock.fingerprint:
                session.progress.note(str(self.apply(goal, place)))
        if capture_output:
            with captured() as (streams, outputs):
                status = execute(command, goal, place, session, wishes=wishes, streams=streams)
            done = subprocess.CompletedProcess(list(command), status, *outputs)
        else:
            on_start = partial(self.on_start, goal, place)
            status = execute(command, goal, place, session, wishes=wishes, takes_over=takes_over, on_start=on_start)
            done = subprocess.CompletedProcess(list(command), status)
        if check:
            done.check_returncode()
        return done


def _besides(asked: Iterable[str], usual: Iterable[str]) -> list[str]:
    """The mounts of the settings, without those whose target is asked for otherwise."""
    targets = {os.path.normpath(text.split(":")[1]) for text in asked if text.count(":") > 0}
    return [text for text in usual if os.path.normpath(text.split(":")[1]) not in targets]


def _network(name: str) -> Network:
    from klock.errors import KlockError
    from klock.workshop.protocol import Network

    try:
        return Network(name)
    except ValueError:
        raise KlockError(f"network is {name!r}", hint="the networks are host and none") from None


def _words_for(gpus: str | int | None) -> str | None:
    """GPUs as the command line names them."""
    return None if gpus is None else str(gpus)


def refuse_if_unable(locked: TargetLock, gpus: str | int | None) -> None:
    """Raises EngineError when this machine lacks the GPUs that are locked or asked for, before anything is fetched."""
    if gpus is not None or locked.target.accelerator != "cpu":
        from klock.gpu.choice import devices_of
        from klock.gpu.choice import refuse_if_unable as refuse

        asked = _words_for(gpus)
        refuse(locked, asked)
        if asked is not None:
            devices_of(locked, asked)


# -- one verb at a time


def lock(
    image: ImageSource = None,
    *,
    upgrade: bool = False,
    upgrade_packages: str | Iterable[str] = (),
    upgrade_base: bool = False,
    keep_base: bool = False,
    strict: bool = False,
    exclude_newer: str | None = None,
    image_digest: bool = False,
    dry_run: bool = False,
    **options: Unpack[Options],
) -> Locked:
    """Resolves an image and writes its lockfile; see `Project.lock`, and `klock.session.Options` for the options."""
    return Project(image, **options).lock(
        upgrade=upgrade,
        upgrade_packages=upgrade_packages,
        upgrade_base=upgrade_base,
        keep_base=keep_base,
        strict=strict,
        exclude_newer=exclude_newer,
        image_digest=image_digest,
        dry_run=dry_run,
    )


def plan(
    image: ImageSource = None,
    *,
    target: str | None = None,
    gpus: str | int | None = None,
    frozen: bool = False,
    **options: Unpack[Options],
) -> Plan:
    """What `sync` would do, as data; see `Project.plan`."""
    return Project(image, **options).plan(target=target, gpus=gpus, frozen=frozen)


def sync(
    image: ImageSource = None,
    *,
    target: str | None = None,
    gpus: str | int | None = None,
    force: bool = False,
    frozen: bool = False,
    **options: Unpack[Options],
) -> Synced:
    """Makes the environment be what is locked, byte for byte; see `Project.sync`."""
    return Project(image, **options).sync(target=target, gpus=gpus, force=force, frozen=frozen)


def check(
    image: ImageSource = None,
    *,
    environment: bool = False,
    container: str | None = None,
    upstream: bool = False,
    vault: str | os.PathLike[str] | None = None,
    advisories: str | os.PathLike[str] | None = None,
    seconds: float = 60,
    target: str | None = None,
    deep: bool = False,
    trust_store: bool = False,
    **options: Unpack[Options],
) -> Checked:
    """Says where image, lockfile and environment disagree; see `Project.check`."""
    return Project(image, **options).check(
        environment=environment,
        container=container,
        upstream=upstream,
        vault=vault,
        advisories=advisories,
        seconds=seconds,
        target=target,
        deep=deep,
        trust_store=trust_store,
    )


def run(
    command: Sequence[str],
    image: ImageSource = None,
    *,
    variables: Mapping[str, str] | None = None,
    mounts: str | Iterable[str] = (),
    working_dir: str | None = None,
    network: str = "host",
    target: str | None = None,
    gpus: str | int | None = None,
    devices: str | Iterable[str] = (),
    host_pid: bool = False,
    host_ipc: bool = False,
    shm_size: int | str | None = None,
    sync: bool = True,
    frozen: bool = False,
    capture_output: bool = False,
    check: bool = False,
    wait_for: int | str | Iterable[int | str] = (),
    wait_seconds: int | None = None,
    **options: Unpack[Options],
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in the environment, to its end; see `Project.run`."""
    return Project(image, **options).run(
        command,
        variables=variables,
        mounts=mounts,
        working_dir=working_dir,
        network=network,
        target=target,
        gpus=gpus,
        devices=devices,
        host_pid=host_pid,
        host_ipc=host_ipc,
        shm_size=shm_size,
        sync=sync,
        frozen=frozen,
        capture_output=capture_output,
        check=check,
        wait_for=wait_for,
        wait_seconds=wait_seconds,
    )
