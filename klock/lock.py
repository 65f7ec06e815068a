"""Locking: an image in, a lockfile out.

The image is drafted (`klock.draft`), then completed in order: the base is resolved; each step whose key is in the previous
lockfile takes over its layer; any other step runs and its layer is recorded. All pip steps are resolved together, before
the first of them runs and in the environment it will find.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from klock.digests import Digest, digest_of_json
from klock.draft import as_draft, base_agrees, draft_steps
from klock.engines.protocol import Workspace
from klock.errors import ImageError
from klock.image.builder import Image
from klock.image.steps import PipInstall
from klock.keys import step_key, step_keys
from klock.layers.normalisation import NORMALISATION
from klock.lockfile.model import (
    AptLock,
    BaseLock,
    EnvLock,
    FilesLock,
    ImageLock,
    Interpreter,
    LayerLock,
    LockedPackage,
    Lockfile,
    PipLock,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
)
from klock.plan import describe
from klock.replay import ensure_base, layers_before, make_layers
from klock.replay.context import Context
from klock.replay.perform import perform, revealed_variables, try_service
from klock.targets import Target

__all__ = ["Upgrade", "image_lock", "lock_image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What may move although the previous lockfile still satisfies the image."""

    everything: bool = False
    packages: frozenset[str] = frozenset()
    base: bool = False

    def __bool__(self) -> bool:
        return self.everything or self.base or bool(self.packages)


def image_lock(image: Image) -> ImageLock:
    return ImageLock(name=image.name, python_path=image.python_path, install_cmd=image.install_cmd)


def lock_image(
    image: Image,
    targets: Sequence[Target],
    *,
    previous: Lockfile | None,
    context: Context,
    upgrade: Upgrade | None = None,
) -> Lockfile:
    """Locks `image` for each target. What `previous` has and the image still asks for is kept, unless upgraded.

    Raises KlockError; the previous lockfile is the caller's to keep then.
    """
    if image.base is None:
        raise ImageError("the image has no base", hint="start from klock.images or call from_docker(...)")
    if previous is not None and previous.normalisation != NORMALISATION:
        previous = None
    locked = tuple(
        _TargetLocker(
            image=image,
            image_lock=image_lock(image),
            target=target,
            previous=previous.for_target(target) if previous else None,
            previous_image=previous.image if previous else None,
            context=context,
            upgrade=upgrade or Upgrade(),
        ).run()
        for target in targets
    )
    return Lockfile(image=image_lock(image), normalisation=NORMALISATION, targets=locked)


@dataclass(kw_only=True)
class _TargetLocker:
    """Locks one target, step by step; `steps` is what is done so far."""

    image: Image
    image_lock: ImageLock
    target: Target
    previous: TargetLock | None
    previous_image: ImageLock | None
    context: Context
    upgrade: Upgrade
    steps: list[StepLock] = field(default_factory=list)
    interpreter: Interpreter | None = None
    resolution: Any = None
    packages: tuple[LockedPackage, ...] = ()

    def run(self) -> TargetLock:
        self.base = self._resolve_base()
        drafts = draft_steps(
            self.image.steps, root=self.context.root, base=self.base, environ=self.context.environ
        )
        if self._is_unchanged(drafts):
            assert self.previous is not None
            return self.previous
        reusable = self._reusable_layers()
        for position, draft in enumerate(drafts):
            if isinstance(draft, EnvLock | ServiceLock):
                self.steps.append(draft)
                continue
            where = self.context.where(position)
            self.context.progress.begin(f"step {position + 1}/{len(drafts)} {describe(draft)}{where}")
            completed = self._complete(draft, drafts)
            key = self._key(completed)
            layer = reusable.get(key)
            if layer is None:
                layer = self._run(completed, key)
                result = f"{layer.files} entries"
            else:
                result = "kept"
            self.steps.append(dataclasses.replace(completed, layer=layer))
            self.context.progress.done(result)
        lock = self._so_far()
        self._try_services(lock)
        return lock

    def _so_far(self) -> TargetLock:
        return TargetLock(
            target=self.target,
            base=self.base,
            interpreter=self.interpreter,
            steps=tuple(self.steps),
            packages=tuple(sorted(self.packages, key=lambda p: (p.name, p.version))),
        )

    # -- the base

    def _resolve_base(self) -> BaseLock:
        from klock.bases import resolve_base

        assert self.image.base is not None
        upgrade = self.upgrade.everything or self.upgrade.base
        previous = self.previous.base if self.previous else None
        if previous is not None and not upgrade and base_agrees(self.image.base, previous):
            return previous
        self.context.progress.begin("base")
        base = resolve_base(
            self.image.base,
            target=self.target,
            root=self.context.root,
            settings=self.context.settings,
            store=self.context.store,
            engine=self.context.engine,
            progress=self.context.progress,
        )
        self.context.progress.done(base.id)
        return base

    # -- what the previous lockfile already has

    def _is_unchanged(self, drafts: list[StepLock]) -> bool:
        return (
            self.previous is not None
            and not self.upgrade
            and self.previous_image == self.image_lock
            and self.previous.base == self.base
            and [as_draft(step) for step in self.previous.steps] == drafts
        )

    def _reusable_layers(self) -> dict[Digest, LayerLock]:
        if self.previous is None or self.previous_image is None:
            return {}
        keys = step_keys(self.previous, image=self.previous_image, normalisation=NORMALISATION)
        return {
            key: step.layer
            for key, step in zip(keys, self.previous.steps, strict=True)
            if key is not None and not isinstance(step, EnvLock | ServiceLock) and not step.force
            # An upgrade asks for what the network has now; what was copied from local files cannot have moved.
            and (not self.upgrade.everything or isinstance(step, FilesLock))
        }

    def _key(self, step: StepLock) -> Digest:
        variables = self._so_far().environment
        return step_key(
            step,
            below=[f"normalisation {NORMALISATION}", self.base.id, self.base.user, *self._so_far().layers],
            variables=variables,
            working_dir=self.base.working_dir,
            packages={p.pin: p for p in self.packages},
            image=self.image_lock,
        )

    # -- completing a draft

    def _complete(self, draft: StepLock, drafts: Sequence[StepLock]) -> PipLock | AptLock | FilesLock | ShellLock:
        match draft:
            case PipLock():
                return self._complete_pip(draft, drafts)
            case AptLock():
                return self._complete_apt(draft)
            case FilesLock(package=str()):
                interpreter = self._probe()
                folder = interpreter.site_packages
                name = draft.destination.rstrip("/").rpartition("/")[2]
                return dataclasses.replace(draft, path_file=f"{folder}/klock-{name}.pth")
            case FilesLock() | ShellLock():
                return draft
            case _:
                raise TypeError(type(draft).__name__)

    def _complete_pip(self, draft: PipLock, drafts: Sequence[StepLock]) -> PipLock:
        if self.resolution is None:
            self._resolve_packages(drafts)
        position = len(self.steps)
        resolved = self.resolution.steps[position]
        return dataclasses.replace(draft, packages=resolved.packages, projects=resolved.projects)

    def _probe(self) -> Any:
        from klock.packages import probe_interpreter

        position = len(self.steps)
        variables = revealed_variables(self._so_far(), position, self.context.environ)
        key = digest_of_json([self.base.id, self._so_far().layers, self.image.python_path, variables.get("PATH")])
        return probe_interpreter(
            lambda: self._workspace(),
            key=key,
            store=self.context.store,
            python_path=self.image.python_path,
            variables=variables,
        )

    def _resolve_packages(self, drafts: Sequence[StepLock]) -> None:
        raise NotImplementedError

    def _complete_apt(self, draft: AptLock) -> AptLock:
        raise NotImplementedError

    # -- running

    def _workspace(self) -> Any:
        """A workspace over all steps so far; what is missing of them is made first."""
        lock = self._so_far()
        make_layers(lock, self.context)
        return self.context.engine.open(lock.base.id, lock.layers)

    def _run(self, step: PipLock | AptLock | FilesLock | ShellLock, key: Digest) -> LayerLock:
        repeats = not isinstance(step, ShellLock) and not step.force
        record = self.context.store.read_record("layers", key) if repeats else None
        if isinstance(record, str) and (manifest := self.context.engine.layer_manifest(record)) is not None:
            return LayerLock(digest=record, files=len(manifest), size=manifest.size)
        with self._workspace() as workspace:
            lock = dataclasses.replace(self._so_far(), steps=(*self.steps, step))
            perform(lock, len(self.steps), workspace, self.context)
            layer = workspace.snapshot()
        if repeats:
            self.context.store.write_record("layers", key, layer.digest)
        return LayerLock(digest=layer.digest, files=len(layer.manifest), size=layer.manifest.size)

    def _try_services(self, lock: TargetLock) -> None:
        for position, step in enumerate(lock.steps):
            if isinstance(step, ServiceLock):
                self.context.progress.begin(f"step {position + 1} {describe(step)}{self.context.where(position)}")
                with self._workspace() as workspace:
                    try_service(lock, position, workspace, self.context)
                self.context.progress.done("it starts")
