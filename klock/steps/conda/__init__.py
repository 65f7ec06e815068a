"""`conda_install`, `micromamba_install`: conda packages, each locked by URL and hash, laid out by klock itself.

No conda is needed in the base, and no program of a package runs but its post-link script, where it has one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from klock.digests import Digest
from klock.errors import ImageError
from klock.findings import Finding
from klock.image.steps import CondaInstall
from klock.lockfile.model import CondaLock, LockedVariable
from klock.steps.at import StepAt
from klock.steps.kind import UNKNOWN_LAYER, Fetched, Input, Kind, OpenBelow
from klock.steps.parts import OF_CONDA, Part, Sort
from klock.steps.staleness import changed
from klock.words import some

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.locking import Locking
    from klock.workshop.protocol import Workspace

__all__ = ["KIND"]


class CondaKind(Kind[CondaInstall, CondaLock]):
    method = "conda_install"
    fetches = True

    def describe(self, step: CondaLock) -> str:
        return f"conda_install {some(step.specs)}"

    def texts(self, step: CondaLock) -> Sequence[str]:
        return (*step.channels, *(package.url for package in step.packages))

    def draft(self, step: CondaInstall, drafting: Drafting) -> CondaLock:
        from klock.layers.normalisation import is_left_out
        from klock.steps.conda.locking import refuse_credentials

        refuse_credentials(step)
        if is_left_out(f"{step.prefix}/x".lstrip("/")):
            raise ImageError(
                f"conda_install: prefix is {step.prefix}, where an image keeps nothing", hint='write "/opt/conda"'
            )
        before = drafting.seen.get("PATH", "").split(":")
        programs = f"{step.prefix}/bin"
        path = ":".join([programs, *(each for each in before if each and each != programs)])
        found = {"PATH": path, "CONDA_PREFIX": step.prefix}
        drafting.variables.update(found)
        drafting.seen.update(found)
        return CondaLock(
            specs=step.specs,
            channels=step.channels,
            prefix=step.prefix,
            layer=UNKNOWN_LAYER,
            variables=tuple(LockedVariable(name=n, written=v, value=v) for n, v in found.items()),
        )

    def as_draft(self, step: CondaLock) -> CondaLock:
        return replace(step, packages=(), scripts=(), layer=UNKNOWN_LAYER)

    def changes(self, before: CondaLock, after: CondaLock) -> Iterator[Finding]:
        for name in ("specs", "channels", "prefix", "variables"):
            old, new = getattr(before, name), getattr(after, name)
            if old != new:
                yield changed(f"conda_install: {name}", str(old), str(new))

    def parts(self, at: StepAt[CondaLock]) -> Iterator[Part]:
        for package in at.step.packages:
            yield Part(
                sort=Sort.PACKAGE,
                name=f"{package.name}{OF_CONDA}",
                value=f"{package.version} {package.build}",
                identity=package.sha256,
                size=package.size,
            )

    # -- locking

    def complete(self, draft: CondaLock, locking: Locking) -> CondaLock:
        from klock.steps.conda.locking import lock_conda

        return lock_conda(draft, locking)

    def repeats(self, at: StepAt[CondaLock]) -> bool:
        """Unless scripts of packages run: then the step is made twice, as a command is."""
        return not at.step.scripts

    def moved(self, at: StepAt[CondaLock], context: Context, asker: Asker) -> Iterator[Finding]:
        from klock.steps.web import moved_files

        yield from moved_files([(each.url, each.size, each.sha256) for each in at.step.packages], at, context, asker)

    # -- replay

    def leave_out(self, step: CondaLock) -> tuple[str, ...]:
        """What scripts say to who installs, which conda shows and removes."""
        return (f"{step.prefix}/.messages.txt",) if step.scripts else ()

    def content(self, at: StepAt[CondaLock], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        step = at.step
        packages = [[package.url, package.sha256] for package in step.packages]
        scripts = [list(step.scripts), sorted(at.before.seen_environment.items())] if step.scripts else []
        return ["conda_install", step.prefix, list(step.specs), packages, *scripts]

    def fetched(self, at: StepAt[CondaLock]) -> Iterator[Fetched]:
        yield from at.step.packages

    def inputs_to_run(self, at: StepAt[CondaLock]) -> Iterator[Input]:
        for package in at.step.packages:
            yield Input(digest=f"sha256:{package.sha256}", size=package.size, name=package.url)

    def fetch(self, at: StepAt[CondaLock], context: Context) -> None:
        from klock.steps.conda.packages import fetch_packages

        fetch_packages(at.step.packages, context)

    def bring_in(
        self, at: StepAt[CondaLock], wanted: Set[Digest], context: Context, *, open_below: OpenBelow
    ) -> Iterator[Callable[[], None]]:
        from klock.steps.conda.packages import fetch_packages

        packages = [package for package in at.step.packages if f"sha256:{package.sha256}" in wanted]
        yield functools.partial(fetch_packages, packages, context)

    def perform(self, at: StepAt[CondaLock], workspace: Workspace, context: Context) -> None:
        from klock.steps.conda.packages import install_packages

        install_packages(at, workspace, context)

    def needs_isolation(self, at: StepAt[CondaLock]) -> bool:
        return bool(at.step.scripts)

    # -- export

    def export(self, at: StepAt[CondaLock], exporting: Exporting) -> None:
        from klock.steps.conda.export import write_conda_step

        write_conda_step(at, exporting)


KIND = CondaKind()
