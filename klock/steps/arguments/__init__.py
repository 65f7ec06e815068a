"""ARG of a Dockerfile: variables that the commands of later steps see, and the environment does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from klock.findings import Finding
from klock.image.dockerfile.arguments import PLATFORM, platform_arguments
from klock.image.steps import Argument, DeclareArguments
from klock.lockfile.model import ArgumentsLock, LockedVariable
from klock.secrets.references import redact_variable
from klock.steps.at import StepAt
from klock.steps.kind import Kind
from klock.steps.parts import Part, Sort
from klock.steps.staleness import changed, stale
from klock.words import some

if TYPE_CHECKING:
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting

__all__ = ["KIND"]


class ArgumentsKind(Kind[DeclareArguments, ArgumentsLock]):
    method = "arg"

    def describe(self, step: ArgumentsLock) -> str:
        return "arg " + (some([argument.name for argument in step.arguments]) or "(not set)")

    def draft(self, step: DeclareArguments, drafting: Drafting) -> ArgumentsLock:
        """An argument that has no value is none: it stays as it was."""
        locked = [variable for argument in step.arguments if (variable := _locked(argument, step, drafting))]
        return ArgumentsLock(arguments=tuple(locked))

    def as_draft(self, step: ArgumentsLock) -> ArgumentsLock:
        return step

    def changes(self, before: ArgumentsLock, after: ArgumentsLock) -> Iterator[Finding]:
        old, new = ({v.name: v for v in step.arguments} for step in (before, after))
        for name in sorted({*old, *new}):
            if name not in new or name not in old:
                yield stale(f"argument {name} is {'in' if name in old else 'not in'} the lockfile")
            elif old[name] != new[name]:
                yield changed(f"argument {name}", old[name].value, new[name].value)

    def parts(self, at: StepAt[ArgumentsLock]) -> Iterator[Part]:
        for argument in at.step.arguments:
            yield Part(sort=Sort.SETTING, name=f"argument {argument.name}", value=argument.value)

    def export(self, at: StepAt[ArgumentsLock], exporting: Exporting) -> None:
        """As a variable with this value, so that a build without `--build-arg` gets it too."""
        for argument in at.step.arguments:
            exporting.secret.pop(argument.name, None)
            if argument.secrets:
                exporting.secret[argument.name] = argument
            else:
                exporting.page.argument(argument.name, argument.value)


def _locked(argument: Argument, step: DeclareArguments, drafting: Drafting) -> LockedVariable | None:
    given = argument.given
    if given is None and argument.default is None and argument.name in PLATFORM:
        given = platform_arguments(drafting.target.platform)[argument.name]
    written = argument.default if given is None else given
    if written is None:
        return None
    redacted = redact_variable(argument.name, written, drafting.environ, used=drafting.used)
    drafting.secrets.update(redacted.names)
    value = redacted.text
    if given is None:
        value = drafting.expansion(step.escape, without=redacted.names).word(redacted.text)
    used = tuple(sorted(secret for secret in drafting.secrets if f"${{{secret}}}" in value))
    drafting.seen[argument.name] = value
    return LockedVariable(name=argument.name, written=redacted.text, value=value, secrets=used)


KIND = ArgumentsKind()
