"""Environments in the store: no daemon and no root. Commands run in the workshop's sandbox, over a writable layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from klock.places.layered import apply_layers, locked_files, why_not_comparable
from klock.places.protocol import OWN_STREAMS, Applied, Evidence, Streams
from klock.places.records import names_in
from klock.places.sandbox.writable import SandboxEnvironment
from klock.store import Store
from klock.values import replace

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.forks import Tally
    from klock.observation import Observation
    from klock.replay.goal import Goal
    from klock.replay.plan import Plan
    from klock.steps.context import Context
    from klock.workshop import SandboxWorkshop
    from klock.workshop.protocol import Command

__all__ = ["SandboxPlace"]


class SandboxPlace:
    """`klock.places.protocol.Place`. What a command changes stays in its environment until the next `apply`."""

    name = "sandbox"
    where = ""
    has_containers = False
    gives_devices = True
    converges = False

    def __init__(self, workshop: SandboxWorkshop, store: Store) -> None:
        self._workshop = workshop
        self._store = store

    def check(self) -> None:
        self._workshop.check()

    def environment(self, name: str) -> SandboxEnvironment:
        workshop = self._workshop
        return SandboxEnvironment(name, store=self._store, trees=workshop.trees, ca_bundle=workshop.ca_bundle)

    def plan(self, goal: Goal) -> Plan:
        from klock.replay.plan import make_plan

        environment = self.environment(goal.name)
        return make_plan(
            goal,
            workshop=self._workshop,
            store=self._store,
            record=environment.record,
            clean=environment.is_clean(),
        )

    def apply(self, goal: Goal, context: Context, *, force: bool = False) -> Applied:
        def make() -> None:
            from klock.workshop.bubblewrap_program import find_bubblewrap

            find_bubblewrap()  # no command could be run in it
            self.environment(goal.name).replace(goal.lock.layers, base=goal.lock.base.id, record=goal.record)

        return apply_layers(self, goal, context, replace=make)

    def synced(self, name: str) -> Digest | None:
        record = self.environment(name).record
        return None if record is None else str(record.get("fingerprint"))

    def is_clean(self, name: str) -> bool:
        return self.environment(name).is_clean()

    def observe(
        self, goal: Goal, *, container: str | None = None, deep: bool = False, tally: Tally | None = None
    ) -> Observation:
        from klock.findings import Code, Finding
        from klock.observation import Observation
        from klock.workshop.working_dir import folders_to, without_made_folders

        assert container is None, "no containers are made of it"
        environment = self.environment(goal.name)
        record = environment.record
        if (problem := why_not_comparable(goal, record, self._workshop)) is not None:
            return Observation(problem=problem)
        assert record is not None
        variables = record.get("variables")
        findings = []
        if environment.has_another_root:
            findings.append(Finding(code=Code.MODIFIED, message="/ differs: mode or owner", path="/"))
        observation = Observation(
            locked_variables=goal.lock.environment,
            variables=variables if isinstance(variables, dict) else {},
            findings=tuple(findings),
        )
        # That base and layers are here says that their files are as they were made, by their stats.
        changes = None if deep else environment.changes()
        if changes is not None and not changes:
            return observation  # nothing to compare, as all is as it was made
        locked, layers = locked_files(goal.lock, self._workshop)
        there = environment.observe(tally) if changes is None else locked.apply(changes)
        working_dir = folders_to(goal.lock.working_dir, locked)
        files = without_made_folders(there, locked, working_dir)
        return replace(observation, locked=locked, layers=tuple(layers), files=files)

    def variables(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        return {}

    def execute(
        self,
        name: str,
        command: Command,
        *,
        services: Sequence[Command] = (),
        streams: Streams = OWN_STREAMS,
        takes_over: bool = False,
    ) -> int:
        return self.environment(name).execute(command, services=services, streams=streams)

    def launch(self, name: str, command: Command) -> str | None:
        from klock.places.sandbox.launch import launch_of

        return launch_of(name, command, ca_bundle=self._workshop.ca_bundle)

    def remove(self, name: str) -> int | None:
        environment = self.environment(name)
        return None if environment.is_in_use else environment.remove()

    def remove_leftovers(self) -> int:
        """A killed command leaves nothing here but half-made things, which the workshop removes with its own."""
        return 0

    def environments(self) -> list[str]:
        return names_in(self._store, self.name)

    def evidence(self, name: str) -> Evidence | None:
        environment = self.environment(name)
        return Evidence(holds=environment.is_clean, files=environment.files_behind())
