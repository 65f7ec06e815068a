"""What every verb starts with: an image, its lockfile, the settings, the store, and the place of its environment."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from klock.errors import ImageError, KlockError, LockfileError, TriggersFound
from klock.image.loading import BuildOptions, ImageReference, LoadedImage, load, lockfile_of
from klock.project import Settings, find_image, load_settings, lockfile_path
from klock.secrets.references import reveal
from klock.store import Store
from klock.targets import Target
from klock.values import dataclass, replace

if TYPE_CHECKING:
    from klock.fetching.mirrors import Mirrors
    from klock.findings import Finding
    from klock.image.builder import Image
    from klock.lockfile.model import ImageLock, Lockfile, TargetLock
    from klock.places.protocol import Place
    from klock.progress import Progress
    from klock.replay.goal import Goal
    from klock.steps.context import Context, LayerCache
    from klock.workshop import SandboxWorkshop

__all__ = ["Options", "Session", "open_session", "refuse_unknown"]


@dataclass(frozen=True, kw_only=True)
class Session:
    """An image as loaded, where its lockfile is, and what to lock and replay it with.

    `engine` names the place that was asked for. The workshop and the place are imported when first asked for: to find
    that a lockfile is stale takes neither.
    """

    loaded: LoadedImage
    settings: Settings
    lockfile: Path
    store: Store
    progress: Progress
    environ: Mapping[str, str]
    offline: bool = False
    engine: str | None = None

    # -- what is there

    @property
    def targets(self) -> tuple[Target, ...]:
        """What to lock for: the settings' targets, or else this machine's."""
        return self.settings.targets or (Target.of_this_machine(),)

    def read_lockfile(self) -> Lockfile:
        """Raises LockfileError when there is none or it cannot be read."""
        from klock.lockfile import read

        lock = read(self.lockfile)
        if lock is None:
            raise LockfileError(f"there is no {self.lockfile.name} in {self.lockfile.parent}", hint="run `klock lock`")
        return lock

    def stale_findings(self, lock: Lockfile) -> list[Finding]:
        """Every way in which the image and the local files are no longer what was locked."""
        from klock.locking.staleness import stale_findings

        return stale_findings(lock, loaded=self.loaded, settings=self.settings, environ=self.environ, store=self.store)

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

        Which one is told when there is a choice.
        """
        cpu = Target.of_this_machine()
        here = [t for t in lock.targets if t.target.platform == cpu.platform]
        if all(locked.target == cpu for locked in here):
            return cpu
        from klock.gpu.choice import choose

        chosen, why = choose(here, default=cpu)
        if len(here) > 1:
            self.progress.note(f"target {chosen}: {why}")
        return chosen

    def with_triggers(self, base: str, triggers: tuple[str, ...]) -> Session:
        """The same where a base image has these instructions for those who build on it (ONBUILD).

        Raises TriggersFound where that was known already.
        """
        known = self.loaded.image._triggers
        if known.get(base, ()) == triggers:
            raise TriggersFound(base, triggers)
        found = {**known, base: triggers}
        image = self.loaded.image._with_triggers({name: texts for name, texts in found.items() if texts})
        return replace(self, loaded=replace(self.loaded, image=image))

    # -- where it is made, and where it lives

    @functools.cached_property
    def ca_bundle(self) -> Path | None:
        """The certificates that programs in the workshop trust: the host's, and the project's besides them."""
        if self.settings.ca_bundle is not None:
            from klock.certificates import joined_bundle

            return joined_bundle(self.settings.ca_bundle, self.store, self.environ)
        configured = self.environ.get("SSL_CERT_FILE")
        return Path(configured) if configured and Path(configured).is_file() else None

    @functools.cached_property
    def workshop(self) -> SandboxWorkshop:
        """Where bases and layers are made."""
        from klock.workshop import SandboxWorkshop

        return SandboxWorkshop(self.store, ca_bundle=self.ca_bundle)

    @functools.cached_property
    def _mirrors(self) -> Mirrors:
        from klock.fetching.mirrors import Mirrors

        return Mirrors.from_settings(
            registries=self.settings.registry_mirrors,
            debian=self.settings.debian_mirror,
            ca_bundle=self.ca_bundle,
        )

    @functools.cached_property
    def context(self) -> Context:
        from klock.locking.draft import host_sources
        from klock.logs import Logged
        from klock.packages.index_mirrors import IndexMirrors
        from klock.steps.context import Context, StagePlaces

        return Context(
            root=self.loaded.root,
            mirrors=self._mirrors,
            index_url=self.settings.index_url,
            index_mirrors=IndexMirrors.of(self.settings.index_mirrors, self.environ),
            targets=self.targets,
            pytorch_indexes=self.settings.pytorch_indexes,
            store=self.store,
            workshop=self.workshop,
            progress=Logged(self.progress, self.log_file),
            environ=self.environ,
            offline=self.offline,
            local_hosts=self.settings.local_hosts,
            credential_files=self.settings.credential_files,
            locations=self.loaded.locations,
            sources=host_sources(self.loaded.image.steps),
            stages={
                stage.name: StagePlaces(
                    locations=self.loaded.locations_of_stages[stage.name], sources=host_sources(stage.steps)
                )
                for stage in self.loaded.image.stages
            },
            make_layers=_make_layers,
            cache=self._cache(),
        )

    def _cache(self) -> LayerCache | None:
        found: LayerCache | None = None
        if self.settings.cache is not None:
            from klock.registry.cache import RegistryCache

            found = RegistryCache(self.settings.cache, mirrors=self._mirrors)
        if (vault := self.settings.vault) is not None:
            from klock.vault.opening import open_vault
            from klock.vault.source import VaultSource

            opened = functools.partial(open_vault, vault, mirrors=self._mirrors, writes=False)
            found = VaultSource(vault, opened, first=found)
        return found

    @property
    def named_place(self) -> str | None:
        """The place that was asked for, or that KLOCK_ENGINE names, or the settings. Raises KlockError."""
        from klock.places import PLACES

        named = self.engine or self.environ.get("KLOCK_ENGINE") or self.settings.engine
        if named is not None and named not in PLACES:
            raise KlockError(
                f"{'engine' if self.engine else 'KLOCK_ENGINE'} is {named!r}",
                hint=f"the engines are {', '.join(PLACES)}",
            )
        return named

    def place_of(self, goal: Goal, *, by_notes: bool = False) -> Place:
        """The named place, or else the one that holds this environment, which is told. With `by_notes` nobody looks at
        what the store has for it."""
        from klock.places import DEFAULT, make_place, place_with

        name = self.named_place
        if name is None:
            name = place_with(goal.name, self.store)
            if name != DEFAULT:
                self.progress.note(f"engine {name}: it has this environment")
        workshop = self.workshop.by_notes if by_notes else self.workshop
        return make_place(name, workshop, self.store, ca_bundle=self.ca_bundle)

    def goal(self, lock: Lockfile, locked: TargetLock) -> Goal:
        """What the environment of `locked`, a part of `lock`, is to be."""
        from klock.digests import digest_of_bytes
        from klock.layers import NORMALISATION
        from klock.replay.goal import Goal
        from klock.steps.cache_keys import cache_keys

        return Goal(
            name=self._environment_name(locked),
            lock=locked,
            cache_keys=tuple(cache_keys(locked, image=lock.image, normalisation=NORMALISATION)),
            lock_digest=digest_of_bytes(self.lockfile.read_bytes()),
            project=self.loaded.root,
        )

    def _environment_name(self, target: TargetLock) -> str:
        """One environment for each lockfile and target, wherever the project is."""
        return self._name_with(str(target.target))

    @property
    def log_file(self) -> Path:
        """Where the store keeps what steps printed when they last ran."""
        return self.store.root / "logs" / f"{self._name_with('steps')}.log"

    def _name_with(self, word: str) -> str:
        """A name of this lockfile's own."""
        from klock.digests import digest_of_bytes, hex_of

        digest = digest_of_bytes(os.fsencode(self.lockfile.absolute()) + b"\0" + word.encode())
        return f"{self.lockfile.parent.name or 'root'}-{hex_of(digest)[:12]}"


def _make_layers(lock: TargetLock, context: Context) -> None:
    from klock.replay import make_layers

    make_layers(lock, context)


class Options(TypedDict, total=False):
    """What every verb takes besides the image. None means that the option is not given."""

    lockfile: str | os.PathLike[str] | None
    """The lockfile, when it is not the one beside the image's file."""
    engine: str | None
    """Where the environment lives: `sandbox`, `podman`, `docker` or `here`. By default as on the command line."""
    offline: bool | None
    """Use only what the store has; open no connection."""
    store: str | os.PathLike[str] | None
    """The folder of the store, when it is not the user's own."""
    environ: Mapping[str, str] | None
    """Where credentials and settings are looked up, when it is not `os.environ`."""
    progress: Progress | None
    """Is told what happens; by default nobody is."""
    build_args: Mapping[str, str | None] | None
    """Values of a Dockerfile's ARGs, over those that the lockfile has; None takes one back."""
    context: str | os.PathLike[str] | None
    """The folder that a Dockerfile's COPY takes files from; by default the lockfile's, or the Dockerfile's own."""


def refuse_unknown(options: Options) -> None:
    """Raises TypeError for an option that does not exist, as Python does for an argument."""
    for name in options:
        if name not in Options.__optional_keys__:
            raise TypeError(
                f"there is no option {name!r}; the options are {', '.join(sorted(Options.__optional_keys__))}"
            )


def open_session(image: Image | str | os.PathLike[str] | None = None, **options: Unpack[Options]) -> Session:
    """Loads the image and the settings that hold where it is. Raises KlockError.

    An `Image` that was made here, in a notebook or a test, belongs to the folder of its `lockfile`, or else to the
    current one.
    """
    from klock.progress import Quiet

    refuse_unknown(options)
    _refuse_other_encodings()
    lockfile, store = _absolute(options.get("lockfile")), _absolute(options.get("store"))
    given = options.get("environ")
    environ = dict(os.environ if given is None else given)
    if image is None or isinstance(image, str | os.PathLike):
        reference = find_image(None if image is None else os.fspath(image))
        loaded = load(reference, _build_options(reference, lockfile or lockfile_of(reference), environ, options))
    else:
        _refuse_what_is_no_image(image)
        folder = Path.cwd() if lockfile is None else lockfile.parent
        loaded = LoadedImage(image=image, file=folder / "kimage.py", name="image", root=folder)
    if loaded.image._dockerfile is not None and not loaded.is_dockerfile:
        from klock.lockfile import read_image

        known = _triggers_of(read_image(lockfile or lockfile_path(loaded)))
        loaded = replace(loaded, image=loaded.image._with_triggers(known))
    return Session(
        loaded=loaded,
        settings=load_settings(loaded.root),
        lockfile=lockfile or lockfile_path(loaded),
        store=Store() if store is None else Store(store),
        progress=options.get("progress") or Quiet(),
        environ=environ,
        offline=bool(options.get("offline")),
        engine=options.get("engine"),
    )


def _refuse_other_encodings() -> None:
    """Raises KlockError. The command line starts again in UTF-8, but a process that is not klock's own cannot."""
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise KlockError(
            f"Python reads the names of files as {encoding}, and a lockfile has them in UTF-8",
            hint="start Python with PYTHONUTF8=1, or in a locale such as C.UTF-8",
        )


def _refuse_what_is_no_image(value: object) -> None:
    from klock.image.builder import Image

    if not isinstance(value, Image):
        raise ImageError(f"the image is {value!r} (expected an Image, or the file that defines one)")


def _absolute(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path).absolute()


def _build_options(
    reference: ImageReference, lockfile: Path, environ: Mapping[str, str], options: Options
) -> BuildOptions:
    """What a Dockerfile is read with: what was asked for, over what its lockfile was made with."""
    asked, context = options.get("build_args") or {}, _absolute(options.get("context"))
    if not reference.is_dockerfile:
        given = {name: value or "" for name, value in asked.items()}
        return BuildOptions(build_args=given, context=context)
    from klock.lockfile import read_image

    known = read_image(lockfile)
    arguments: dict[str, str | None] = {}
    for argument in known.build_args if known else ():
        names = argument.secrets
        is_set = all(environ.get(name) for name in names)
        arguments[argument.name] = reveal(argument.value, names, environ) if is_set else argument.value
    arguments.update(asked)
    if context is not None:
        folder: Path | None = context
        if not context.is_dir():
            raise KlockError(f"--context {context} is not a folder", hint="name the folder that COPY takes files from")
    else:
        folder = reference.file.parent / known.context if known and known.context else None
    return BuildOptions(
        build_args={name: value for name, value in arguments.items() if value is not None},
        context=folder,
        triggers=_triggers_of(known),
    )


def _triggers_of(known: ImageLock | None) -> dict[str, tuple[str, ...]]:
    return {each.base: each.instructions for each in known.triggers} if known else {}
