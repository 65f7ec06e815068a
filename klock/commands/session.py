"""What every verb starts with: the project, the image, the lockfile, the store and the engine."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from klock.errors import KlockError, LockfileError
from klock.project import LoadedImage, Settings, load_image, load_settings, lockfile_path
from klock.store import Store
from klock.targets import Target

if TYPE_CHECKING:
    from klock.lockfile.model import Lockfile, TargetLock
    from klock.progress import Progress
    from klock.replay.context import Context
    from klock.workshop.protocol import Engine

__all__ = [
    "Session",
    "engine_option",
    "gpus_option",
    "image_argument",
    "offline_option",
    "open_session",
    "progress_options",
    "target_option",
]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Session:
    """An image as loaded, where its lockfile is, and what to lock and replay it with.

    `locations` are the builder calls of the steps, as messages show them. The engine is imported when first asked for:
    `klock check` has no use for it.
    """

    loaded: LoadedImage
    settings: Settings
    lockfile: Path
    store: Store
    progress: Progress
    environ: Mapping[str, str]
    offline: bool = False
    engine_name: str | None = None

    @functools.cached_property
    def engine(self) -> Engine:
        """Where the environment lives."""
        from klock.places import DEFAULT, make_engine

        return make_engine(self.engine_name or DEFAULT, self.store)

    @property
    def named_engine(self) -> str | None:
        """The engine that the command line names, or KLOCK_ENGINE, or the settings. Raises KlockError."""
        from klock.places import ENGINES

        named = self.engine_name or self.environ.get("KLOCK_ENGINE") or self.settings.engine
        if named is not None and named not in ENGINES:
            raise KlockError(f"KLOCK_ENGINE is {named!r}", hint=f"the engines are {', '.join(ENGINES)}")
        return named

    def with_engine(self, locked: TargetLock) -> Session:
        """The session with the named engine, or else the one that holds this environment, which is said on stderr."""
        from klock.places import DEFAULT, engine_with

        name = self.named_engine
        if name is None:
            name = engine_with(self.environment_name(locked), self.store)
            if name != DEFAULT:
                click.echo(f"engine {name}: it has this environment", err=True)
        return dataclasses.replace(self, engine_name=name)

    @functools.cached_property
    def context(self) -> Context:
        from klock.bases.mirrors import Mirrors
        from klock.draft import host_sources
        from klock.replay.context import Context

        ca_bundle = self.environ.get("SSL_CERT_FILE") if self.settings.ca_bundle else None
        return Context(
            root=self.loaded.root,
            mirrors=Mirrors.from_settings(
                registries=self.settings.registry_mirrors,
                debian=self.settings.debian_mirror,
                ca_bundle=Path(ca_bundle) if ca_bundle else None,
            ),
            index_url=self.settings.index_url,
            targets=self.targets,
            pytorch_indexes=self.settings.pytorch_indexes,
            store=self.store,
            engine=self.engine,
            progress=self.progress,
            environ=self.environ,
            offline=self.offline,
            local_hosts=self.settings.local_hosts,
            locations=self.locations,
            sources=host_sources(self.loaded.image.steps),
        )

    @property
    def locations(self) -> tuple[str | None, ...]:
        root = self.loaded.root
        return tuple(step.location.below(root) if step.location else None for step in self.loaded.image.steps)

    @property
    def base_location(self) -> str | None:
        base = self.loaded.image.base
        return base.location.below(self.loaded.root) if base and base.location else None

    @property
    def targets(self) -> tuple[Target, ...]:
        """What to lock for: the settings' targets, or else this machine's."""
        return self.settings.targets or (Target.of_this_machine(),)

    def read_lockfile(self) -> Lockfile:
        """Raises LockfileError when there is none or it cannot be read."""
        from klock import lockfile

        lock = lockfile.read(self.lockfile)
        if lock is None:
            raise LockfileError(f"there is no {self.lockfile.name} in {self.lockfile.parent}", hint="run `klock lock`")
        return lock

    def locked_target(self, lock: Lockfile, name: str | None) -> TargetLock:
        """The part of the lockfile for the target `name`, or else for this machine. Raises KlockError."""
        target = Target.parse(name) if name else self._machines_target(lock)
        locked = lock.for_target(target)
        if locked is None:
            there = ", ".join(str(t.target) for t in lock.targets)
            raise KlockError(
                f"{self.lockfile.name} is not locked for {target}, only for {there}",
                hint=f"add it to targets in [tool.klock] and run `klock lock`, or choose one with --target {there}",
            )
        return locked

    def _machines_target(self, lock: Lockfile) -> Target:
        """Of the targets locked for this platform the newest CUDA that the machine can run, or else `cpu`.

        Which one is said on stderr when there is a choice.
        """
        cpu = Target.of_this_machine()
        here = [t for t in lock.targets if t.target.platform == cpu.platform]
        if all(locked.target == cpu for locked in here):
            return cpu
        from klock.gpu.choice import choose

        chosen, why = choose(here, default=cpu)
        if len(here) > 1:
            click.echo(f"target {chosen}: {why}", err=True)
        return chosen

    def environment_name(self, target: TargetLock) -> str:
        """One environment for each lockfile and target, wherever the project is."""
        from klock.digests import digest_of_bytes, hex_of

        digest = digest_of_bytes(os.fsencode(self.lockfile.absolute()) + b"\0" + str(target.target).encode())
        return f"{self.lockfile.parent.name or 'root'}-{hex_of(digest)[:12]}"


def open_session(
    image: str | None, *, offline: bool = False, progress: Progress | None = None, engine: str | None = None
) -> Session:
    """Loads the image and the settings that hold where it is. Raises KlockError."""
    from klock.progress import Quiet

    loaded = load_image(image)
    settings = load_settings(loaded.root)
    store = Store()
    if settings.ca_bundle is not None:
        from klock.certificates import joined_bundle

        # Whatever opens a connection reads this variable: OpenSSL here, and uv, pip, apt and curl in the sandbox.
        os.environ["SSL_CERT_FILE"] = str(joined_bundle(settings.ca_bundle, store))
    return Session(
        loaded=loaded,
        settings=settings,
        lockfile=lockfile_path(loaded),
        store=store,
        progress=progress or Quiet(),
        environ=dict(os.environ),
        offline=offline,
        engine_name=engine,
    )


def image_argument(command: F) -> F:
    return click.argument("image", required=False, metavar="[FILE[:NAME]]")(command)


def target_option(command: F) -> F:
    return click.option(
        "--target", metavar="TARGET", help="Such as linux/amd64/cpu. Without it: what this machine is."
    )(command)


def engine_option(command: F) -> F:
    from klock.places import DEFAULT, ENGINES

    text = f"Where the environment lives. Without it: $KLOCK_ENGINE, [tool.klock], the one that has it, or {DEFAULT}."
    here = "In the container that klock runs in: --engine here."
    command = click.option("--here", "engine", flag_value="here", help=here)(command)
    return click.option("--engine", type=click.Choice(ENGINES), help=text)(command)


def gpus_option(command: F) -> F:
    text = "The GPUs it is for: all, a number, none, or CDI device names. Without it: all for a CUDA target."
    return click.option("--gpus", metavar="all|N|none|NAME", help=text)(command)


def offline_option(command: F) -> F:
    return click.option("--offline", is_flag=True, help="Use what the store has; open no connection.")(command)


def progress_options(command: F) -> F:
    """`-q` and `-v`, joined into one keyword argument: `progress`."""

    @functools.wraps(command)
    def with_progress(*args: Any, quiet: bool, verbose: bool, **options: Any) -> Any:
        from klock.commands.terminal import progress_on_stderr

        with progress_on_stderr(quiet=quiet, verbose=verbose) as progress:
            return command(*args, progress=progress, **options)

    decorated = click.option("-v", "--verbose", is_flag=True, help="Show what steps print.")(with_progress)
    return click.option("-q", "--quiet", is_flag=True, help="Show no progress.")(decorated)  # type: ignore[return-value]
