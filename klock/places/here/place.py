"""The place `here`: klock runs inside the container, whose own root file system is the environment.

There are no layers to exchange, and often no right to make namespaces. So steps are done in the root itself
(`klock.places.here.converging`), what each changed is compared with the locked layer, and pip and file steps can be
taken back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klock.errors import EngineError, Interrupted, KlockError
from klock.findings import Code, Finding
from klock.layers.manifest import Manifest
from klock.observation import Observation
from klock.places.here.contents import Here, expected, observed
from klock.places.here.converging import converge, plan_in_place
from klock.places.here.root import Root
from klock.places.here.state import FORCED, StateFolder
from klock.places.protocol import OWN_STREAMS, Applied, Evidence, Streams
from klock.store import Store
from klock.workshop.container import is_container, own_variables
from klock.workshop.working_dir import folders_to, without_made_folders

if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.forks import Tally
    from klock.replay.goal import Goal
    from klock.replay.plan import Plan
    from klock.steps.context import Context
    from klock.workshop.protocol import Command, Workshop

__all__ = ["HerePlace"]

_HALF_WAY = "the container may be in the middle of a step; run `klock sync --here` again to finish or undo that step"


class HerePlace:
    """`klock.places.protocol.Place`. It has one environment, whatever its name, and needs no layers in the store."""

    name = "here"
    where = " in this container"
    has_containers = False
    gives_devices = False
    converges = True

    def __init__(self, workshop: Workshop, store: Store, *, ca_bundle: Path | None = None) -> None:
        """`ca_bundle`: certificates that commands with the host's network trust."""
        self._here = Here(folder=StateFolder(), root=Root(store, ca_bundle=ca_bundle), workshop=workshop)
        self._ca_bundle = ca_bundle

    def check(self) -> None:
        """Raises EngineError when klock may not change this container's root."""
        if os.geteuid() != 0:
            raise EngineError("only root can change the container it runs in", hint="run klock as root (USER root)")
        if not is_container(os.environ):
            raise EngineError(
                "--here changes the root file system that klock runs in, and this does not look like a container",
                hint="run klock in a container; if this is one, set the variable `container`: container=yes klock ...",
            )
        if not os.access("/", os.W_OK):
            raise EngineError("the container's root file system cannot be written", hint="start it without --read-only")

    def plan(self, goal: Goal) -> Plan:
        return plan_in_place(goal, self._here).as_plan(goal.lock)

    def apply(self, goal: Goal, context: Context, *, force: bool = False) -> Applied:
        """Raises Interrupted when a Ctrl-C stops it in the middle of a step."""
        self.check()
        try:
            plan = converge(goal, here=self._here, context=context, force=force)
        except KeyboardInterrupt:
            raise Interrupted(_HALF_WAY) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise KlockError(f"{where}{error.strerror or error}", hint=_HALF_WAY) from error
        is_locked = self.synced(goal.name) == goal.lock.fingerprint
        return Applied(changed=not plan.changes_nothing, ran=len(plan.run), is_locked=is_locked)

    def synced(self, name: str) -> Digest | None:
        record = self._record
        return None if record is None else str(record.get("fingerprint"))

    def is_clean(self, name: str) -> bool:
        """Whether its files are as its layers say, and the others as the last sync left them."""
        return self._here.folder.read() is None or observed(self._here) == expected(self._here)

    def observe(
        self, goal: Goal, *, container: str | None = None, deep: bool = False, tally: Tally | None = None
    ) -> Observation:
        """The container against the locked layers over what else the last sync left in it.

        What lies in the project's folder and no step made is the user's own.
        """
        assert container is None, "no containers are made of it"
        fingerprint = self.synced(goal.name)
        forced = "this container was synced with --force: it is not what the lockfile says"
        if fingerprint == FORCED:
            if [done.layer for done in self._here.state.steps] != list(goal.lock.layers):
                return Observation(problem=forced)
        elif fingerprint != goal.lock.fingerprint:
            return Observation(problem="this container was not synced from this lockfile: run `klock sync --here`")
        layers = [self._here.folder.layer(digest) for digest in goal.lock.layers]
        made = {path for layer in layers for path in layer}
        project = str(goal.project.resolve()).strip("/") + "/"

        def without_project(manifest: Manifest) -> Manifest:
            return Manifest(e for path, e in manifest.items() if path in made or not f"{path}/".startswith(project))

        locked = expected(self._here)
        there = observed(self._here, deep=deep)
        files = without_made_folders(there, locked, folders_to(goal.lock.working_dir, locked))
        variables = (self._record or {}).get("variables")
        return Observation(
            locked=without_project(locked),
            layers=tuple(layers),
            files=without_project(files),
            locked_variables=goal.lock.environment,
            variables=variables if isinstance(variables, dict) else {},
            findings=(Finding(code=Code.NOT_SYNCED, message=forced),) if fingerprint == FORCED else (),
        )

    def variables(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """The container has variables of its own, as its pod's definition gives them.

        The certificates that commands trust elsewhere are laid over the tree they see. Here nothing is, so their file
        is named.
        """
        trusted = {} if self._ca_bundle is None else {"SSL_CERT_FILE": str(self._ca_bundle)}
        return {**own_variables(environ), **trusted}

    def execute(
        self,
        name: str,
        command: Command,
        *,
        services: Sequence[Command] = (),
        streams: Streams = OWN_STREAMS,
        takes_over: bool = False,
    ) -> int:
        from klock.places.here.execution import execute

        return execute(command, services=services, streams=streams, takes_over=takes_over)

    def launch(self, name: str, command: Command) -> str | None:
        return None

    def remove(self, name: str) -> int | None:
        """A container cannot be removed from inside."""
        return None

    def remove_leftovers(self) -> int:
        return 0

    def environments(self) -> list[str]:
        """The store knows of none: the container's notes are in the container."""
        return []

    def evidence(self, name: str) -> Evidence | None:
        return None

    @property
    def _record(self) -> Mapping[str, object] | None:
        state = self._here.folder.read()
        return None if state is None else state.record
