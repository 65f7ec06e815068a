"""Locking one target, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Final

from klock.digests import Digest
from klock.errors import EngineError, ImageError, TriggersFound
from klock.image.builder import Image
from klock.image.install_command import with_install_options
from klock.image.steps import Base, ImageStage
from klock.layers import NORMALISATION
from klock.lockfile.model import (
    DEBIAN_RECIPE,
    BaseLock,
    DebianLock,
    ImageLock,
    OciLock,
    StageLock,
    StepLock,
    TargetLock,
    is_forced,
    layer_of,
)
from klock.locking.draft import base_agrees, check_steps, draft_steps
from klock.locking.making import lock_steps, refuse_before_any_is_made, try_services
from klock.locking.staying import steps_stay
from klock.replay import opened_over
from klock.steps import kind_of
from klock.steps.cache_keys import cache_keys
from klock.steps.context import Context
from klock.steps.locking import Locking, Upgrade
from klock.steps.results import is_refuted
from klock.targets import Target
from klock.values import dataclass

# Most images have one stage.
if TYPE_CHECKING:
    from klock.locking.stages import Task

__all__ = ["TargetLocker"]

_UNKNOWN_BASE: Final = DebianLock(suite="", packages=(), debs=(), tree="")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drafted:
    """The drafts of an image's steps, and what is to be said of them."""

    image: Image
    steps: list[StepLock]
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLocker:
    """Locks `image` for one target. `previous` is the target's part of the lockfile before, `before` is what was locked
    for other targets just now: the first says what holds for all, and those of one platform share a base.
    `stages` are those that a stage can take files from itself, and `made` are the steps made so far, by the key that
    they had before: stages over one parent have its steps in common. `bases` are those that are known by now, and
    `drafts` those that were made, by image and base.

    If the layers of `previous` followed other rules (`rules_changed`), versions are taken over from it, and layers are
    not.
    """

    image: Image
    image_lock: ImageLock
    target: Target
    previous: TargetLock | None
    previous_image: ImageLock | None
    before: tuple[TargetLock, ...] = ()
    rules_changed: bool
    context: Context
    upgrade: Upgrade
    stages: tuple[StageLock, ...] = ()
    made: dict[Digest, StepLock] = field(default_factory=dict)
    bases: dict[Base, BaseLock] = field(default_factory=dict)
    drafts: dict[tuple[int, BaseLock], _Drafted] = field(default_factory=dict)

    def prepared(self) -> TargetLocker:
        """The same with the workshop that this machine has for the target, where anything is to be done.

        Raises EngineError or ImageError for what cannot be locked on this machine, before anything is fetched.
        """
        only = self.image.platform
        if only is not None and only != self.target.platform:
            raise ImageError(
                f"a FROM of the Dockerfile is for {only} only, as it names --platform, TARGETARCH or another argument "
                f"of the platform: klock cannot lock {self.target} from it",
                hint=f"remove it: a base's name holds for all of its platforms; or lock {self.target} on a machine "
                "of that platform",
            )
        if self._unchanged() is not None:
            return self
        from klock.locking.still import in_workshop_for, refuse_what_must_run

        known = self.previous.base if self.previous else None
        context = in_workshop_for(self.target, self.image, self.context, known=known)
        refuse_what_must_run(self.image, context)
        return replace(self, context=context)

    def run(self) -> TargetLock:
        try:
            return self._run()
        except EngineError:
            from klock.locking.still import in_workshop_for

            # The sandbox does not work any more, and may not be needed.
            context = in_workshop_for(self.target, self.image, self.context)
            if self.context.workshop.is_still or not context.workshop.is_still:
                raise
            return replace(self, context=context)._run()

    def _run(self) -> TargetLock:
        # What is wrong with the image itself is said before anything is fetched.
        known = self.previous.base if self.previous else _UNKNOWN_BASE
        self._draft(known)
        steps = with_install_options(self.image.steps, self.image.install_cmd)
        check_steps(steps, root=self.context.root, base=known, target=self.target, environ=self.context.environ)
        if self.image._dockerfile is not None:
            # Before a stage takes minutes: a base may have triggers, and then everything is another image.
            self._resolve_base()
        stages = self._lock_stages()
        base = self._resolve_base()
        if self.context.workshop.is_still:
            from klock.locking.still import bring_archives_of

            bring_archives_of(base, self.context)
        drafts = self._draft(base)
        for note in self._drafted(base).notes if not self.before else ():
            self.context.progress.warn(note)
        if self.previous is not None and self._is_unchanged(self.previous, base, drafts, stages):
            return self.previous
        locking = self._locking(base, drafts, stages)
        refuse_before_any_is_made(locking)
        lock_steps(locking, reusable=self._reusable_steps(), made=self.made)
        try_services(locking)
        return locking.lock

    def _locking(self, base: BaseLock, drafts: Sequence[StepLock], stages: tuple[StageLock, ...]) -> Locking:
        """What is known before the first step is made."""
        return Locking(
            image=self.image,
            image_lock=self.image_lock,
            previous=self.previous,
            previous_image=self.previous_image,
            upgrade=self.upgrade,
            context=self.context,
            lock=TargetLock(target=self.target, base=base, interpreter=None, steps=(), packages=(), stages=stages),
            drafts=tuple(drafts),
            open_over=opened_over,
        )

    # -- stages

    def _lock_stages(self) -> tuple[StageLock, ...]:
        """The stages that files are taken from, in order, each as an image of its own."""
        before = self.previous.locks_of_stages if self.previous else {}
        lockers = [
            replace(
                self,
                image=self._image_of(stage),
                context=self.context.of_stage(stage.name),
                previous=before.get(stage.name),
            )
            for stage in self.image.stages
        ]
        for locker in (*lockers, self):
            locker._keep_base()
        done: tuple[StageLock, ...] = ()
        for stage, locker in zip(self.image.stages, lockers, strict=True):
            if (locked := replace(locker, stages=done)._unchanged()) is None:
                break
            done = (*done, StageLock(name=stage.name, base=locked.base, steps=locked.steps))
        waiting = dict(zip(self.image.stages[len(done) :], lockers[len(done) :], strict=True))
        changed = self._lock_changed_stages(waiting, done) if waiting else ()
        return (*done, *changed) or self.stages

    def _lock_changed_stages(
        self, lockers: Mapping[ImageStage, TargetLocker], done: tuple[StageLock, ...]
    ) -> tuple[StageLock, ...]:
        from klock.locking.stages import beginning_of, in_order

        tasks = [self._task(stage, locker, list(lockers), done) for stage, locker in lockers.items()]
        beginning = beginning_of(self.image) if self._unchanged() is None else None
        if beginning is not None:
            tasks.append(self._task(beginning, replace(self, image=self._image_of(beginning)), list(lockers), ()))
        for locker in lockers.values():
            locker._resolve_base()
        for locker in (*lockers.values(), self):
            # The last stage's too, before the first takes minutes.
            base = locker._resolve_base()
            refuse_before_any_is_made(locker._locking(base, locker._draft(base), ()))
        found = in_order(tasks, self.context)
        for _, made in found.values():
            self.made.update(made)
        return tuple(found[stage.name][0] for stage in lockers)

    def _image_of(self, stage: ImageStage) -> Image:
        image = Image.of_stage(stage)
        image._triggers = self.image._triggers
        return image

    def _task(
        self, stage: ImageStage, locker: TargetLocker, stages: Sequence[ImageStage], done: tuple[StageLock, ...]
    ) -> Task[tuple[StageLock, dict[Digest, StepLock]]]:
        from klock.locking.stages import Task, needed_by

        earlier = stages[: stages.index(stage)] if stage in stages else stages
        needs = needed_by(stage, earlier)

        def run(
            context: Context, given: Mapping[str, tuple[StageLock, dict[Digest, StepLock]]]
        ) -> tuple[StageLock, dict[Digest, StepLock]]:
            context.progress.note(
                f"stage {stage.name}" if stage.name else "the steps before the first that copies from a stage"
            )
            found = [given[each.name][0] for each in earlier if each.name in given]
            for _, made in given.values():
                locker.made.update(made)
            context = replace(locker.context, workshop=context.workshop, progress=context.progress)
            lock = replace(locker, context=context, stages=(*done, *found)).run()
            return StageLock(name=stage.name, base=lock.base, steps=lock.steps), locker.made

        return Task(name=stage.name, needs=needs, run=run)

    def _unchanged(self) -> TargetLock | None:
        """The previous lock, if it still is what the image asks for."""
        previous, base = self.previous, self.image.base
        if previous is None or base is None or not base_agrees(base, previous.base):
            return None
        drafts = self._draft(previous.base)
        stages = previous.stages if self.image.stages else self.stages
        return previous if self._is_unchanged(previous, previous.base, drafts, stages) else None

    def _draft(self, base: BaseLock) -> list[StepLock]:
        return self._drafted(base).steps

    def _drafted(self, base: BaseLock) -> _Drafted:
        """The drafts over a base, made once: local files are what they are when they are first read."""
        known = self.drafts.get((id(self.image), base))
        if known is not None:
            return known
        context = self.context
        notes: list[str] = []
        steps = draft_steps(
            self.image.steps,
            root=context.root,
            base=base,
            target=self.target,
            environ=context.environ,
            store=context.store,
            credential_files=context.credential_files,
            notes=notes,
        )
        made = self.drafts[id(self.image), base] = _Drafted(image=self.image, steps=steps, notes=notes)
        return made

    def _resolve_base(self) -> BaseLock:
        """Raises TriggersFound for a base with others than the image was read with."""
        base = self._known_or_resolved_base()
        if isinstance(base, OciLock) and base.settings is not None:
            triggers = base.settings.on_build
            if triggers != self.image._triggers.get(base.reference, ()):
                raise TriggersFound(base.reference, triggers)
        return base

    def _known_or_resolved_base(self) -> BaseLock:
        from klock.bases import resolve_base

        assert self.image.base is not None
        if (known := self._keep_base()) is not None:
            return known
        if (
            same := next((lock for lock in self.before if lock.target.platform == self.target.platform), None)
        ) is not None:
            return same.base
        self.bases[self.image.base] = resolve_base(
            self.image.base,
            target=self.target,
            root=self.context.root,
            mirrors=self.context.mirrors,
            store=self.context.store,
            workshop=self.context.workshop,
            offline=self.context.offline,
            progress=self.context.progress,
        )
        return self.bases[self.image.base]

    def _keep_base(self) -> BaseLock | None:
        """The base that is locked, or known from another stage: one name is one image in all of them."""
        assert self.image.base is not None
        upgrade = self.upgrade.everything or self.upgrade.base
        previous = self.previous.base if self.previous else None
        if previous is not None and not upgrade and base_agrees(self.image.base, previous):
            return self.bases.setdefault(self.image.base, self._by_present_rules(previous))
        return self.bases.get(self.image.base)

    def _by_present_rules(self, previous: BaseLock) -> BaseLock:
        if not isinstance(previous, DebianLock) or previous.recipe == DEBIAN_RECIPE:
            return previous
        from klock.bases import remake_base

        return remake_base(
            previous,
            mirrors=self.context.mirrors,
            store=self.context.store,
            workshop=self.context.workshop,
            offline=self.context.offline,
            progress=self.context.progress,
        )

    # -- what the previous lockfile already has

    def _is_unchanged(
        self, previous: TargetLock, base: BaseLock, drafts: list[StepLock], stages: tuple[StageLock, ...]
    ) -> bool:
        return (
            not self.upgrade
            and not self.context.strict
            and previous.stages == stages
            and not self.rules_changed
            and self.previous_image == self.image_lock
            and previous.base == base
            and steps_stay(
                previous,
                drafts,
                image=self.image_lock,
                store=self.context.store,
                keep_base=self.context.keep_base,
            )
        )

    def _previous_steps(self, *, drafted: bool = False) -> Iterator[tuple[Digest, StepLock]]:
        """The previous lockfile's steps that make layers by the present rules, with their keys (see `cache_keys`)."""
        if self.previous is not None and self.previous_image is not None and not self.rules_changed:
            keys = cache_keys(self.previous, image=self.previous_image, normalisation=NORMALISATION, drafted=drafted)
            yield from ((k, step) for k, step in zip(keys, self.previous.steps, strict=True) if k is not None)

    def _reusable_steps(self) -> dict[Digest, StepLock]:
        """The previous lockfile's steps that need not run, by the key they had before they ran."""
        refuted = [step for key, step in self._previous_steps() if self._is_refuted(key, step)]
        return {
            key: step
            for key, step in self._previous_steps(drafted=True)
            if not is_forced(step)
            and step not in refuted
            # An upgrade asks for what the network has now; what was copied from local files cannot have moved.
            and (not self.upgrade.everything or kind_of(step).is_copied)
        }

    def _is_refuted(self, key: Digest, step: StepLock) -> bool:
        layer = layer_of(step)
        return layer is not None and is_refuted(key, layer.digest, self.context.store)
