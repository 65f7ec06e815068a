"""What the rest of klock may ask of a place where environments live: plan, apply, observe, execute, remove.

A place takes the layers that the workshop made. It starts no program but the command that a user runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from klock.values import dataclass

# A command of an environment that is there starts without lockfile and workshop.
if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.forks import Tally
    from klock.lockfile.model import SettingsLock
    from klock.observation import Observation
    from klock.replay.goal import Goal
    from klock.replay.plan import Plan
    from klock.steps.context import Context
    from klock.workshop.protocol import BaseLayer, Command

__all__ = ["OWN_STREAMS", "Applied", "Evidence", "ImageConfig", "Place", "Streams"]


Streams = tuple[int, int, int]
"""File descriptors of a command's stdin, stdout and stderr."""

OWN_STREAMS: Final[Streams] = (0, 1, 2)
"""This process's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How a container of an environment starts when nobody says otherwise (OCI image-spec, config.md).

    `architecture` is the OCI platform's. `environment` has no secrets in it. `archives` are those of the base, the
    lowest first, where the store still has them: an engine that has the base image shares them. `settings` are those of
    a Dockerfile.
    """

    architecture: str
    environment: Mapping[str, str]
    settings: SettingsLock
    working_dir: str = "/"
    user: str = ""
    archives: tuple[BaseLayer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What `Place.apply` did: how many steps ran, and whether the environment is another one than before.

    `is_locked` is False only for a place that was forced, and is not what is locked.
    """

    changed: bool
    ran: int
    is_locked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What shows without a scan that an environment is still as `apply` left it.

    `files`: files and folders whose stat changes with it. `settings`: files, there or not, that decide where it is.
    `image`: the socket of an engine, and the name of an image there. `holds` scans the environment, once,
    and says whether it is clean now.
    """

    holds: Callable[[], bool]
    files: Iterable[Path] = ()
    settings: Sequence[Path] = ()
    image: tuple[str, str] | None = None


class Place(Protocol):
    """Where environments live. `name` is what `--engine` calls it, `where` how sentences end: ` on podman`."""

    name: str
    where: str
    has_containers: bool
    """Whether people start containers from an environment, which `observe` can be asked for."""
    gives_devices: bool
    """Whether `execute` can give a command devices. If not, it has those that the place itself was started with."""
    converges: bool
    """Whether steps are done and taken back in a running system, so that `force` has a meaning."""

    def check(self) -> None:
        """Raises EngineError, with the way out, when this machine cannot run the place. Cheap."""

    def plan(self, goal: Goal) -> Plan:
        """What `apply` would do. Changes nothing."""

    def apply(self, goal: Goal, context: Context, *, force: bool = False) -> Applied:
        """Makes the environment be the locked one. A second process that does the same waits.

        `force`, where the place converges: does the locked steps over what cannot be taken back. Raises KlockError when
        a step does not make its locked layer; the environment is then as it was, but for a place that converges.
        """

    def synced(self, name: str) -> Digest | None:
        """The fingerprint that the environment `name` was last synced to; None when there is no environment.

        Raises EngineError when somebody put something else in its place.
        """

    def is_clean(self, name: str) -> bool:
        """Whether nothing was written to it since `apply`. Cheap; what was done to the store only `observe` sees."""

    def observe(
        self, goal: Goal, *, container: str | None = None, deep: bool = False, tally: Tally | None = None
    ) -> Observation:
        """What is in the environment beside what is locked. With `deep` every file is read; else those need not be
        whose stat is as the place has noted it. `tally` counts what is read, where that is much.

        With `container`, a container that somebody started from the environment is observed.
        """

    def variables(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """The variables that commands have here besides the image's; `environ` is this process's environment."""

    def execute(
        self,
        name: str,
        command: Command,
        *,
        services: Sequence[Command] = (),
        streams: Streams = OWN_STREAMS,
        takes_over: bool = False,
    ) -> int:
        """Runs a command in the environment `name`, forwards signals to it, returns its status.

        Services run as long as it does. Changes it makes outside of /tmp, /run and mounts stay in the environment, or
        go with the container that was made for it: each place says which. On this process's own streams the command has
        its terminal too. `takes_over`: this process has nothing left to do, so the command may take its place.
        """

    def launch(self, name: str, command: Command) -> str | None:
        """What starts a command in the environment `name` again, without its words, where nothing has changed; None
        where nothing does. It is kept in a file, so no secret may be in the command's variables."""

    def remove(self, name: str) -> int | None:
        """Removes an environment; returns the bytes freed in the store, or None when it is in use and stays."""

    def remove_leftovers(self) -> int:
        """Removes what killed processes of klock left here; returns how many things."""

    def environments(self) -> list[str]:
        """The names of the environments here that the store knows of."""

    def evidence(self, name: str) -> Evidence | None:
        """None where only `apply` can tell."""
