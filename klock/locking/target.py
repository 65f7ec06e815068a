"""Locking one target, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Final

from klock.digests import Digest
from klock.draft import as_draft, base_agrees, check_requirements, draft_steps
from klock.errors import ImageError
from klock.image.builder import Image
from klock.image.install_command import with_install_options
from klock.image.steps import Step
from klock.keys import step_key, step_keys
from klock.layers import NORMALISATION
from klock.lockfile.model import (
    AptLock,
    BaseLock,
    DebianLock,
    EnvLock,
    FilesLock,
    ImageLock,
    Interpreter,
    LayerLock,
    LockedPackage,
    PipLock,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
)
from klock.locking.pip_steps import pip_positions, pip_requests
from klock.locking.shell_steps import lock_shell_step, summary
from klock.made import made_by, remember
from klock.packages.interpreter import TargetPython, probe_interpreter
from klock.replay import make_layers
from klock.replay.perform import netrc_of, perform, try_service
from klock.replay.plan import describe
from klock.steps.context import Context
from klock.steps.variables import revealed_variables
from klock.targets import Target
from klock.words import counted
from klock.workshop.protocol import Workspace

__all__ = ["TargetLocker", "Upgrade"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What may move although the previous lockfile still satisfies the image."""

    everything: bool = False
    packages: frozenset[str] = frozenset()
    base: bool = False

    def __bool__(self) -> bool:
        return self.everything or self.base or bool(self.packages)


_UNKNOWN_BASE: Final = DebianLock(suite="", packages=(), debs=(), tree="")


@dataclass(kw_only=True)
class TargetLocker:
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
    packages: tuple[LockedPackage, ...] = ()
    resolved: dict[int, PipLock] | None = None

    def run(self) -> TargetLock:
        # What is wrong with the image itself is said before anything is fetched.
        self._draft(self.previous.base if self.previous else _UNKNOWN_BASE)
        check_requirements(self._pip_steps(), root=self.context.root, environ=self.context.environ)
        self.base = self._resolve_base()
        drafts = self._draft(self.base)
        if self._is_unchanged(drafts):
            assert self.previous is not None
            return self.previous
        reusable = self._reusable_steps()
        for position, draft in enumerate(drafts):
            where = self.context.where(position)
            self.context.progress.begin(f"step {position + 1}/{len(drafts)} {describe(draft)}{where}")
            if isinstance(draft, EnvLock | ServiceLock):
                self.steps.append(draft)
                self.context.progress.done("no layer" if isinstance(draft, EnvLock) else "tried at the end")
                continue
            completed = self._complete(draft, drafts)
            key = self._key(completed)
            if (before := reusable.get(key)) is not None:
                # A shell step is kept with its requests; of any other all but the layer was completed anew.
                step = before if isinstance(before, ShellLock) else replace(completed, layer=before.layer)
                result = "kept"
            else:
                step = self._run(completed, key)
                result = summary(step) if isinstance(step, ShellLock) else counted(step.layer.files, "entry")
            self.steps.append(step)
            self.context.progress.done(result)
        lock = self._so_far()
        self._try_services(lock)
        return lock

    def _pip_steps(self) -> tuple[Step, ...]:
        return with_install_options(self.image.steps, self.image.install_cmd)

    def _draft(self, base: BaseLock) -> list[StepLock]:
        return draft_steps(
            self.image.steps,
            root=self.context.root,
            base=base,
            environ=self.context.environ,
            store=self.context.store,
        )

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
        return resolve_base(
            self.image.base,
            target=self.target,
            root=self.context.root,
            mirrors=self.context.mirrors,
            store=self.context.store,
            workshop=self.context.workshop,
            offline=self.context.offline,
            progress=self.context.progress,
        )

    # -- what the previous lockfile already has

    def _is_unchanged(self, drafts: list[StepLock]) -> bool:
        return (
            self.previous is not None
            and not self.upgrade
            and self.previous_image == self.image_lock
            and self.previous.base == self.base
            and [as_draft(step) for step in self.previous.steps] == drafts
            and not any(self._is_refuted(key, step.layer.digest) for key, step in self._previous_steps())
        )

    def _previous_steps(
        self, *, drafted: bool = False
    ) -> Iterator[tuple[Digest, PipLock | AptLock | FilesLock | ShellLock]]:
        """The previous lockfile's steps that make layers, with their keys (see `step_keys`)."""
        if self.previous is not None and self.previous_image is not None:
            keys = step_keys(self.previous, image=self.previous_image, normalisation=NORMALISATION, drafted=drafted)
            for key, step in zip(keys, self.previous.steps, strict=True):
                if key is not None and not isinstance(step, EnvLock | ServiceLock):
                    yield key, step

    def _reusable_steps(self) -> dict[Digest, PipLock | AptLock | FilesLock | ShellLock]:
        """The previous lockfile's steps that need not run, by the key they had before they ran."""
        refuted = [step for key, step in self._previous_steps() if self._is_refuted(key, step.layer.digest)]
        return {
            key: step
            for key, step in self._previous_steps(drafted=True)
            if not step.force
            and step not in refuted
            # An upgrade asks for what the network has now; what was copied from local files cannot have moved.
            and (not self.upgrade.everything or isinstance(step, FilesLock))
        }

    def _is_refuted(self, key: Digest, layer: Digest) -> bool:
        """Whether the step was seen to make other layers: its inputs changed, or the lockfile was merged."""
        made = made_by(key, self.context.store)
        return bool(made) and layer not in made

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
                with self._workspace() as workspace:
                    folder = self._probe(workspace).paths["purelib"]
                name = draft.destination.rpartition("/")[2]
                return replace(draft, path_file=f"{folder}/klock-{name}.pth")
            case FilesLock() | ShellLock():
                return draft
            case _:
                raise TypeError(type(draft).__name__)

    def _complete_pip(self, draft: PipLock, drafts: Sequence[StepLock]) -> PipLock:
        if self.resolved is None:
            self.resolved = self._keep_resolution(drafts) or self._resolve_packages(drafts)
        return self.resolved[len(self.steps)]

    def _keep_resolution(self, drafts: Sequence[StepLock]) -> dict[int, PipLock] | None:
        """The previous lockfile's resolution, if the same was asked for in the same environment."""
        if self.previous is None or self.upgrade or self.previous_image != self.image_lock:
            return None
        old = [(n, s) for n, s in enumerate(self.previous.steps) if isinstance(s, PipLock)]
        new = [(n, s) for n, s in enumerate(drafts) if isinstance(s, PipLock)]
        if not old or [as_draft(step) for _, step in old] != [step for _, step in new]:
            return None
        if any(step.projects for _, step in old) or self.previous.base != self.base:
            return None
        before = replace(self.previous, steps=self.previous.steps[: old[0][0]])
        if before.layers != self._so_far().layers or before.environment != self._so_far().environment:
            return None
        self.interpreter, self.packages = self.previous.interpreter, self.previous.packages
        return {position: step for (position, _), (_, step) in zip(new, old, strict=True)}

    def _resolve_packages(self, drafts: Sequence[StepLock]) -> dict[int, PipLock]:
        from klock.packages.indexes import DEFAULT_INDEX
        from klock.packages.question import Question, World
        from klock.packages.resolution import resolve

        context = self.context
        drafted = replace(self._so_far(), steps=tuple(drafts))
        question = Question(
            requests=tuple(pip_requests(self._pip_steps(), drafted, context)),
            previous=self.previous.packages if self.previous else (),
            upgrade=self.upgrade.everything,
            upgrade_packages=self.upgrade.packages,
            default_index=context.index_url or DEFAULT_INDEX,
        )
        with self._workspace() as workspace:
            python = self._probe(workspace)
            world = World(
                workspace=workspace,
                python=python,
                store=context.store,
                netrc=netrc_of(context.environ),
                ca_bundle=context.mirrors.ca_bundle,
                offline=context.offline,
                progress=context.progress,
            )
            resolution = resolve(question, world)
        for warning in resolution.warnings:
            context.progress.warn(warning)
        self.interpreter, self.packages = python.interpreter, resolution.packages
        positions = pip_positions(self.image.steps)
        resolved = {}
        for position, pins, projects in zip(positions, resolution.steps, resolution.projects, strict=True):
            draft = drafts[position]
            assert isinstance(draft, PipLock)
            resolved[position] = replace(draft, packages=pins, projects=projects)
        return resolved

    def _probe(self, workspace: Workspace) -> TargetPython:
        """The Python that packages go into here. Raises ImageError when there is none."""
        position = len(self.steps)
        variables = revealed_variables(self._so_far(), position, self.context.environ)
        python = probe_interpreter(workspace, python_path=self.image.python_path, variables=variables)
        if python is None:
            raise ImageError(
                f"step {position + 1}{self.context.where(position)}: there is no Python in the environment yet",
                hint="choose a base with Python, or install one in an earlier step: apt_install(['python3'])",
            )
        return python

    def _complete_apt(self, draft: AptLock) -> AptLock:
        from klock.debian.install import resolve_apt

        position = len(self.steps)
        variables = revealed_variables(self._so_far(), position, self.context.environ)
        previous = next(
            (
                step.debs
                for step in (self.previous.steps if self.previous else ())
                if isinstance(step, AptLock) and step.packages == draft.packages
            ),
            (),
        )
        with self._workspace() as workspace:
            debs = resolve_apt(
                draft.packages,
                workspace,
                environment=variables,
                store=self.context.store,
                mirrors=self.context.mirrors,
                previous=() if self.upgrade.everything else previous,
                where=f"step {position + 1}{self.context.where(position)}",
                offline=self.context.offline,
                progress=self.context.progress,
            )
        return replace(draft, debs=debs)

    # -- running

    def _workspace(self) -> AbstractContextManager[Workspace]:
        """A workspace over all steps so far; what is missing of them is made first."""
        lock = self._so_far()
        make_layers(lock, self.context)
        return self.context.workshop.open(lock.base.id, lock.layers)

    def _run(
        self, step: PipLock | AptLock | FilesLock | ShellLock, key: Digest
    ) -> PipLock | AptLock | FilesLock | ShellLock:
        """The step with the layer that it makes, which is remembered."""
        lock = replace(self._so_far(), steps=(*self.steps, step))
        position = len(self.steps)
        if isinstance(step, ShellLock):
            make_layers(self._so_far(), self.context)
            locked = lock_shell_step(lock, position, self.context)
            remember(self._key(locked), locked.layer.digest, self.context.store)
            return locked
        for digest in made_by(key, self.context.store)[-1:] if not step.force else ():
            if (manifest := self.context.workshop.layer_manifest(digest)) is not None:
                return replace(step, layer=LayerLock(digest=digest, files=len(manifest), size=manifest.size))
        with self._workspace() as workspace:
            perform(lock, position, workspace, self.context)
            layer = workspace.snapshot()
        remember(key, layer.digest, self.context.store)
        locked_layer = LayerLock(digest=layer.digest, files=len(layer.manifest), size=layer.manifest.size)
        return replace(step, layer=locked_layer)

    def _try_services(self, lock: TargetLock) -> None:
        for position, step in enumerate(lock.steps):
            if isinstance(step, ServiceLock):
                self.context.progress.begin(f"step {position + 1} {describe(step)}{self.context.where(position)}")
                with self._workspace() as workspace:
                    try_service(lock, position, workspace, self.context)
                self.context.progress.done("it starts")
