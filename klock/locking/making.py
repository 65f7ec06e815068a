"""Making the steps of a target, one upon the other, and seeing each step that runs programs make its layer twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from klock.digests import Digest
from klock.layers import NORMALISATION
from klock.lockfile.model import StepLock, TargetLock, is_forced, layer_of, with_layer
from klock.locking.draft import as_draft
from klock.locking.unfinished import Unfinished
from klock.replay import make_layers
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.cache_keys import cache_key
from klock.steps.context import Context
from klock.steps.kind import Made
from klock.steps.locking import BackTo, Locking
from klock.steps.results import layers_made_by, proven_layers, remember_layer, remember_proof
from klock.steps.unrepeatable import Unrepeatable
from klock.values import dataclass

__all__ = ["lock_steps", "refuse_before_any_is_made", "try_services"]


def lock_steps(locking: Locking, *, reusable: Mapping[Digest, StepLock], made: dict[Digest, StepLock]) -> None:
    """Locks what is not locked yet of the steps of `locking`, in order.

    `reusable` are steps that need not run, by the key they had before they ran; `made` is filled with those that did.
    """
    _Making(locking=locking, reusable=reusable, made=made).run()


def refuse_before_any_is_made(locking: Locking) -> None:
    """Raises StepFailed for a step that is known to make something else each time, before any step takes minutes.

    What the base has already is not made. Steps that were locked have been seen to repeat.
    """
    known = [as_draft(step) for step in locking.previous_steps]
    told: list[tuple[StepAt[StepLock], Unrepeatable]] = []
    for at in locking.context.each(replace(locking.lock, steps=locking.drafts)):
        found = kind_of(at.step).unrepeatable(at)
        if found and at.step not in known:
            from klock.debian.dpkg_status import STATUS_FILE, installed_packages

            with locking.workspace() as workspace:
                installed = {package.name for package in installed_packages(workspace.read(STATUS_FILE) or b"")}
                new = [each for each in found if each.package not in installed]
                missing = [each for each in new if each.overwrites or not workspace.read_matching(each.paths)]
            told += [(at, each) for each in missing]
    if told:
        from klock.steps.repeating import refuse_what_cannot_repeat

        refuse_what_cannot_repeat(told)


def try_services(locking: Locking) -> None:
    """Starts each service for a moment. Raises StepFailed for one that fails in it."""
    context = locking.context
    for at in context.each(locking.lock):
        if kind_of(at.step).is_service and not context.workshop.is_still:
            context.progress.begin(at.heading)
            with locking.workspace() as workspace:
                kind_of(at.step).try_out(at, workspace, context)
            context.progress.done("started")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """A step that is made and still to be proven. `key` is the one that it had before it ran."""

    prove: Callable[[Context], None]
    key: Digest
    step: StepLock
    made_by: Digest


@dataclass(kw_only=True)
class _Making:
    """`proofs` are processes that prove earlier steps, as in `klock.locking.ahead`."""

    locking: Locking
    reusable: Mapping[Digest, StepLock]
    made: dict[Digest, StepLock]
    proofs: Sequence[int] = ()

    @property
    def context(self) -> Context:
        return self.locking.context

    def run(self) -> None:
        while self.locking.position < len(self.locking.drafts):
            draft = self.locking.drafts[self.locking.position]
            try:
                ahead = self._lock_step(draft)
            except BackTo as back:
                self.context.progress.done(f"locking again from step {back.position + 1} on")
                self.locking.go_back(back.position)
                continue
            if ahead is not None:
                self._go_on_beside(ahead)
                return
        if self.proofs:
            self.context.progress.begin("the steps once more, with the same inputs")

    def _go_on_beside(self, ahead: _Ahead) -> None:
        """Makes the steps after the last one while that is proven."""
        from klock.locking.ahead import prove_beside

        def go_on(context: Context, proofs: Sequence[int]) -> tuple[TargetLock, dict[Digest, StepLock]]:
            self.locking.context, self.proofs = context, proofs
            self.run()
            return self.locking.lock, self.made

        def prove(context: Context) -> None:
            ahead.prove(context)
            # Here, for a later step may fail.
            self._remember(ahead.key, ahead.step, made_by=ahead.made_by)

        self.locking.lock, made = prove_beside(
            prove, go_on, self.context, earlier=self.proofs, name=f"step {self.locking.position} once more"
        )
        self.made.update(made)
        if not self.proofs:
            self.context.progress.done("the same")

    def _lock_step(self, draft: StepLock) -> _Ahead | None:
        """Adds the next step. Returned is what is still to be seen of it while the steps after it are made."""
        locking = self.locking
        kind, at = kind_of(draft), locking.at(draft)
        total = len(locking.drafts)
        where = f" ({at.location})" if at.location else ""
        self.context.progress.begin(f"step {at.position + 1}/{total} {at.text}{where}")
        completed = kind.complete(draft, locking)
        if layer_of(draft) is None:
            locking.add(completed)
            self.context.progress.done(kind.result(completed))
            return None
        key = self._key(completed)
        before = self.made.get(key) or self.reusable.get(key) or self._unfinished.find(key, completed)
        if before is not None:
            locking.add(kind.kept(completed, before))
            self.context.progress.done("kept")
            return None
        step, ahead = self._make(completed, key)
        if not is_forced(step):
            self.made[key] = step
        locking.add(step)
        self.context.progress.done(kind.result(step))
        return ahead

    def _make(self, step: StepLock, key: Digest) -> tuple[StepLock, _Ahead | None]:
        """The step with the layer that it makes, or that is remembered."""
        kind, store = kind_of(step), self.context.store
        at = self.locking.at(step)
        if kind.remembers(step) and not is_forced(step):
            for digest in layers_made_by(key, store)[-1:] if kind.repeats(at) else proven_layers(key, store):
                if (manifest := self.context.workshop.by_notes.layer_manifest(digest)) is not None:
                    return with_layer(step, kind.locked_layer(step, manifest)), None
        context = self.context
        if kind.is_made_of_notes(at):
            context = replace(context, workshop=context.workshop.by_notes)
        make_layers(self.locking.lock, context)
        made: Made[StepLock] = kind.make(at, context)
        made_by = self._key(made.step)
        if made.prove is not None and self._can_go_on:
            return made.step, _Ahead(prove=made.prove, key=key, step=made.step, made_by=made_by)
        if made.prove is not None:
            made.prove(self.context)
        self._remember(key, made.step, made_by=made_by)
        return made.step, None

    @property
    def _can_go_on(self) -> bool:
        """Whether there is more to make, in a workshop that other processes work in too."""
        later = self.locking.drafts[self.locking.position + 1 :]
        return self.context.workshop.is_shared and any(layer_of(draft) is not None for draft in later)

    def _key(self, step: StepLock) -> Digest:
        return cache_key(self.locking.at(step), image=self.locking.image_lock, normalisation=NORMALISATION)

    def _remember(self, key: Digest, step: StepLock, *, made_by: Digest) -> None:
        """Notes that a step, which had `key` before it ran and has `made_by` now, was seen to make its layer."""
        layer, store = layer_of(step), self.context.store
        assert layer is not None
        remember_layer(made_by, layer.digest, store)
        remember_proof(made_by, layer.digest, store)
        if not is_forced(step) and not kind_of(step).remembers(step):
            self._unfinished.add(key, step)

    @property
    def _unfinished(self) -> Unfinished:
        return Unfinished(self.context)
