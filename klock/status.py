"""`klock status`: what is here of an image, or in the whole store, and whether it is still what is locked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from klock.errors import KlockError
from klock.places import PLACES, converges, make_place
from klock.places.records import has_record, names_in, parts_of_all, read_note
from klock.values import dataclass
from klock.words import ago, counted, in_bytes

if TYPE_CHECKING:
    from klock.findings import Finding
    from klock.places.protocol import Place
    from klock.session import Session
    from klock.store import Store
    from klock.workshop import SandboxWorkshop

__all__ = ["EnvironmentStatus", "State", "Status", "StoreStatus", "status_of", "status_of_store"]


class State(Enum):
    """Of an environment, beside the lockfile that it belongs to. The value is what JSON has."""

    AS_LOCKED = "as-locked"
    CHANGED = "changed"
    OUTDATED = "outdated"
    MISSING = "missing"
    UNKNOWN = "unknown"
    ABANDONED = "abandoned"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    State.AS_LOCKED: "as locked",
    State.CHANGED: "changed since the sync: `klock check --env` says where, `klock sync` puts it right",
    State.OUTDATED: "made from another lockfile: run `klock sync`",
    State.MISSING: "not made yet: run `klock sync`",
    State.UNKNOWN: "",
    State.ABANDONED: "its lockfile is gone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentStatus:
    """`place` is what `--engine` calls it; `synced` when it was last made, in seconds since 1970, if that is known;
    `size` in bytes. Whether files of the store were changed only `klock check --env` sees. `problem` says why a place
    could not be asked."""

    name: str
    place: str
    state: State
    target: str | None = None
    lockfile: Path | None = None
    synced: float | None = None
    size: int | None = None
    problem: str | None = None

    def __str__(self) -> str:
        """`linux/amd64/cpu in the sandbox, 120.3 MB, synced 5 minutes ago: as locked`"""
        where = "in the sandbox" if self.place == "sandbox" else f"on {self.place}"
        size = None if self.size is None else in_bytes(self.size)
        synced = None if self.synced is None else f"synced {ago(time.time() - self.synced)}"
        facts = ", ".join(filter(None, (f"{self.target or self.name} {where}", size, synced)))
        return ": ".join(filter(None, (facts, self.problem or self.state.words)))

    def to_json(self) -> dict[str, object]:
        synced = None if self.synced is None else datetime.fromtimestamp(int(self.synced), UTC).isoformat()
        fields = {
            "name": self.name,
            "engine": self.place,
            "target": self.target,
            "lockfile": None if self.lockfile is None else str(self.lockfile),
            "state": self.state.value,
            "synced": synced,
            "size": self.size,
            "problem": self.problem,
        }
        return {key: value for key, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`findings` are where image and lockfile disagree; None where there is no lockfile."""

    image: str
    lockfile: Path
    findings: tuple[Finding, ...] | None
    environments: tuple[EnvironmentStatus, ...]

    def lines(self) -> Iterator[str]:
        yield f"image        {self.image}"
        if self.findings is None:
            yield f"lockfile     there is no {self.lockfile.name}: run `klock lock`"
        elif self.findings:
            number = counted(len(self.findings), "finding")
            yield f"lockfile     {self.lockfile.name}: stale, {number}: `klock check` says where"
        else:
            yield f"lockfile     {self.lockfile.name}: agrees with the image"
        for environment in self.environments:
            yield f"environment  {environment}"

    def to_json(self) -> dict[str, object]:
        found = None if self.findings is None else [finding.to_json() for finding in self.findings]
        environments = [environment.to_json() for environment in self.environments]
        return {"image": self.image, "lockfile": str(self.lockfile), "findings": found, "environments": environments}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """Sizes in bytes on the disk. `downloads` are those that `klock cache clean` removes, `kept` those that it keeps,
    `trees` are bases and layers, `prunable` what of them `klock cache prune` removes."""

    root: Path
    environments: tuple[EnvironmentStatus, ...]
    downloads: int
    kept: int
    trees: int
    written: int
    prunable: int

    def lines(self) -> Iterator[str]:
        total = self.downloads + self.kept + self.trees + self.written
        yield f"store {self.root}, {in_bytes(total)}"
        yield f"  downloads        {in_bytes(self.downloads)}"
        yield f"  kept downloads   {in_bytes(self.kept)}"
        prunable = f"of which `klock cache prune` would free {in_bytes(self.prunable)}"
        yield f"  bases and layers {in_bytes(self.trees)}, {prunable}"
        yield f"  environments     {in_bytes(self.written)}"
        for environment in self.environments:
            yield str(environment)
            if environment.lockfile is not None:
                yield f"  {environment.lockfile}"

    def to_json(self) -> dict[str, object]:
        sizes = {"downloads": self.downloads, "kept": self.kept, "trees": self.trees, "environments": self.written}
        return {
            "store": str(self.root),
            "sizes": sizes,
            "prunable": self.prunable,
            "environments": [environment.to_json() for environment in self.environments],
        }


def status_of(session: Session) -> Status:
    """What is here of the session's image."""
    from klock.lockfile import read

    lock = read(session.lockfile)
    findings = None if lock is None else session.stale_findings(lock)
    return Status(
        image=session.loaded.label,
        lockfile=session.lockfile,
        findings=None if findings is None else tuple(findings),
        environments=tuple(_environments_of(session)),
    )


def _environments_of(session: Session) -> Iterator[EnvironmentStatus]:
    from klock.lockfile import read
    from klock.places.layered import why_not_in_store
    from klock.targets import Target

    lock = read(session.lockfile)
    if lock is None:
        return
    named, here = session.named_place, Target.of_this_machine().platform
    for locked in lock.targets:
        goal, made = session.goal(lock, locked), False
        for name in PLACES:
            if converges(name) or not has_record(session.store, name, goal.name):
                continue
            made = True
            place = make_place(name, session.workshop, session.store, ca_bundle=session.ca_bundle)
            state, problem = _state(place, goal.name, locked.fingerprint)
            size = None
            if why_not_in_store(locked, session.workshop) is None:
                size = session.workshop.base_manifest(locked.base.id).size
                size += sum(step.layer.size for step in locked.steps if hasattr(step, "layer"))
            note = read_note(session.store, name, goal.name)
            yield EnvironmentStatus(
                name=goal.name,
                place=name,
                state=state,
                target=str(locked.target),
                lockfile=session.lockfile,
                synced=None if note is None else note.synced,
                size=size,
                problem=problem,
            )
        if not made and locked.target.platform == here:
            place_name = named if named is not None and not converges(named) else PLACES[0]
            yield EnvironmentStatus(name=goal.name, place=place_name, state=State.MISSING, target=str(locked.target))


def _state(place: Place, name: str, fingerprint: str) -> tuple[State, str | None]:
    try:
        if place.synced(name) != fingerprint:
            return State.OUTDATED, None
        return (State.AS_LOCKED if place.is_clean(name) else State.CHANGED), None
    except KlockError as error:
        return State.UNKNOWN, error.message


def status_of_store(store: Store, workshop: SandboxWorkshop) -> StoreStatus:
    """What is in the store: every environment that it knows of, and what takes how much space."""
    environments = []
    for place in PLACES:
        for name in names_in(store, place):
            note = read_note(store, place, name)
            abandoned = note is not None and not note.lockfile.exists()
            environments.append(
                EnvironmentStatus(
                    name=name,
                    place=place,
                    state=State.ABANDONED if abandoned else State.UNKNOWN,
                    target=None if note is None else note.target,
                    lockfile=None if note is None else note.lockfile,
                    synced=None if note is None else note.synced,
                )
            )
    folders = {name: [store.root / name] for name in ("blobs", "kept", "trees", "environments")}
    sizes = {name: workshop.bytes_in([path for path in paths if path.exists()]) for name, paths in folders.items()}
    kept = store.kept_bytes()
    return StoreStatus(
        root=store.root,
        environments=tuple(environments),
        # Kept downloads are further names of blobs.
        downloads=max(0, sizes["blobs"] - kept),
        kept=kept,
        trees=sizes["trees"],
        written=sizes["environments"],
        prunable=workshop.bytes_unused(keep=sorted(parts_of_all(store))),
    )
