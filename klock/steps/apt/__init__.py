"""`apt_install`: Debian packages, resolved against the environment's own sources, each .deb locked by hash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from klock.digests import Digest
from klock.findings import Finding
from klock.image.steps import AptInstall
from klock.lockfile.model import AptLock, DebPackage
from klock.steps.at import StepAt
from klock.steps.kind import UNKNOWN_LAYER, Fetched, Input, Kind, OpenBelow, ways_of
from klock.steps.parts import Part, part_of_deb
from klock.steps.staleness import changed, changed_options
from klock.words import some

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.locking import Locking
    from klock.steps.newer import Looking, Newer
    from klock.steps.unrepeatable import Unrepeatable
    from klock.workshop.protocol import Workspace

__all__ = ["KIND", "SOURCES"]

SOURCES: Final = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*")
"""Where an environment says what its archives are."""


class AptKind(Kind[AptInstall, AptLock]):
    method = "apt_install"
    runs_commands = True
    fetches = True

    def describe(self, step: AptLock) -> str:
        return "apt_install " + some(step.packages)

    def draft(self, step: AptInstall, drafting: Drafting) -> AptLock:
        return AptLock(
            packages=step.packages,
            debs=(),
            layer=UNKNOWN_LAYER,
            force=step.force,
            leave_out=step.leave_out,
            keep_layer=step.keep_layer,
        )

    def as_draft(self, step: AptLock) -> AptLock:
        return replace(step, debs=(), layer=UNKNOWN_LAYER, kept=None)

    def changes(self, before: AptLock, after: AptLock) -> Iterator[Finding]:
        if before.packages != after.packages:
            yield changed("apt_install", " ".join(before.packages), " ".join(after.packages))
        yield from changed_options(before, after)

    # -- locking

    def unrepeatable(self, at: StepAt[AptLock]) -> Sequence[Unrepeatable]:
        from klock.steps.unrepeatable import in_packages, not_covered

        step = at.step
        names = [deb.name for deb in step.debs] or step.packages
        return () if step.keep_layer else not_covered(in_packages(names), step.leave_out)

    def complete(self, draft: AptLock, locking: Locking) -> AptLock:
        """The .debs; those of the previous lock for the same list are kept as far as they still do.

        Raises StepFailed for one that is known to make something else each time it is installed.
        """
        from klock.debian.install import resolve_apt
        from klock.steps.repeating import refuse_what_cannot_repeat

        context, at = locking.context, locking.at(draft)
        before = [step for step in locking.previous_steps if isinstance(step, AptLock)]
        previous: tuple[DebPackage, ...] = next((s.debs for s in before if s.packages == draft.packages), ())
        with locking.workspace() as workspace:
            sources = workspace.read_matching(SOURCES).values()
            debs = resolve_apt(
                draft.packages,
                workspace,
                environment=at.open_variables(context.environ),
                store=context.store,
                passes=context.passes(at.before, settings=[text.decode("utf-8", "replace") for text in sources]),
                mirrors=context.mirrors,
                previous=() if locking.upgrade.everything else previous,
                where=at.name,
                offline=context.offline,
                progress=context.progress,
            )
        completed = replace(draft, debs=debs)
        refuse_what_cannot_repeat([(at, each) for each in self.unrepeatable(locking.at(completed))])
        return completed

    def parts(self, at: StepAt[AptLock]) -> Iterator[Part]:
        yield from super().parts(at)
        yield from map(part_of_deb, at.step.debs)

    def moved(self, at: StepAt[AptLock], context: Context, asker: Asker) -> Iterator[Finding]:
        from klock.debian.still_there import moved_debs

        return moved_debs(at.step.debs, context.mirrors.debian, asker)

    def newer(self, at: StepAt[AptLock], looking: Looking) -> Iterator[Newer]:
        from klock.steps.apt.newer import newer_debs

        return newer_debs(at, looking)

    def asks_for(self, step: AptLock) -> frozenset[str]:
        return frozenset(package.partition("=")[0] for package in step.packages)

    # -- replay

    def content(self, at: StepAt[AptLock], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        from klock.lockfile.codec import encode

        step = at.step
        return ["apt_install", list(step.packages), [encode(deb) for deb in step.debs], *ways_of(step)]

    def fetched(self, at: StepAt[AptLock]) -> Iterator[Fetched]:
        yield from at.step.debs

    def inputs_to_run(self, at: StepAt[AptLock]) -> Iterator[Input]:
        """The archive drops a version when a newer one takes its place."""
        for deb in at.step.debs:
            name = f"{deb.name} {deb.version}"
            yield Input(digest=f"sha256:{deb.sha256}", size=deb.size, name=name, permanent=False)

    def fetch(self, at: StepAt[AptLock], context: Context) -> None:
        _fetch(at.step.debs, context)

    def bring_in(
        self, at: StepAt[AptLock], wanted: Set[Digest], context: Context, *, open_below: OpenBelow
    ) -> Iterator[Callable[[], None]]:
        yield lambda: _fetch([deb for deb in at.step.debs if f"sha256:{deb.sha256}" in wanted], context)

    def perform(self, at: StepAt[AptLock], workspace: Workspace, context: Context) -> None:
        from klock.debian.install import install_apt
        from klock.secrets.masking import masked
        from klock.steps.leaks import refuse_leaks

        self.fetch(at, context)
        with masked(context.progress.output, context.secret_values(at.lock)) as on_output:
            install_apt(
                workspace,
                at.step.packages,
                at.step.debs,
                store=context.store,
                environment=at.variables(context.environ),
                on_output=on_output,
                where=at.name,
            )
        refuse_leaks(at, workspace, context)

    # -- export

    def export(self, at: StepAt[AptLock], exporting: Exporting) -> None:
        from klock.steps.apt.export import write_apt_step

        write_apt_step(exporting.page, at.step, folder=at.folder, context=exporting.context)


def _fetch(debs: tuple[DebPackage, ...] | list[DebPackage], context: Context) -> None:
    from klock.debian.install import fetch_debs

    fetch_debs(debs, store=context.store, mirrors=context.mirrors, offline=context.offline, progress=context.progress)


KIND = AptKind()
