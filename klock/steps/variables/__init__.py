"""`set_env_vars`: values as written, and as expanded in order. Commands and later steps see them; no layer is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from klock.findings import Finding
from klock.image.expansion import expand_value
from klock.image.steps import SetEnvVars
from klock.lockfile.model import EnvLock, LockedVariable
from klock.secrets.references import redact_variable, refuse_variable
from klock.steps.at import StepAt
from klock.steps.kind import Kind
from klock.steps.parts import Part, Sort
from klock.steps.staleness import changed, stale
from klock.words import some

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting

__all__ = ["KIND"]


class VariablesKind(Kind[SetEnvVars, EnvLock]):
    method = "set_env_vars"

    def describe(self, step: EnvLock) -> str:
        return "set_env_vars " + some([variable.name for variable in step.variables])

    def draft(self, step: SetEnvVars, drafting: Drafting) -> EnvLock:
        """Expands in order.

        A value that takes a secret over from another variable names it too, and a `${NAME}` that stands for a
        credential is not expanded by a container variable of that name.
        """
        seen = dict(drafting.variables)
        locked = []
        for name, written in step.variables:
            redacted = redact_variable(name, written, drafting.environ, used=drafting.used)
            drafting.secrets.update(redacted.names)
            if step.escape is None:
                visible = {n: v for n, v in seen.items() if n not in redacted.names}
                seen[name] = expand_value(redacted.text, visible)
            else:
                # docker takes the values from before the instruction.
                expansion = drafting.expansion(step.escape, without=redacted.names)
                name = expansion.word(name)
                seen[name] = expansion.word(redacted.text)
            used = tuple(sorted(secret for secret in drafting.secrets if f"${{{secret}}}" in seen[name]))
            locked.append(LockedVariable(name=name, written=redacted.text, value=seen[name], secrets=used))
        for variable in locked:
            drafting.variables[variable.name] = drafting.seen[variable.name] = variable.value
        return EnvLock(variables=tuple(locked))

    def as_draft(self, step: EnvLock) -> EnvLock:
        return step

    def changes(self, before: EnvLock, after: EnvLock) -> Iterator[Finding]:
        old = {v.name: v for v in before.variables}
        new = {v.name: v for v in after.variables}
        for name in sorted({*old, *new}):
            if name not in new:
                yield stale(f"variable {name} is in the lockfile, not in the image")
            elif name not in old:
                yield stale(f"variable {name} is not in the lockfile")
            elif old[name] != new[name]:
                yield changed(f"variable {name}", old[name].value, new[name].value)
        if sorted(old) == sorted(new) and all(old[n] == new[n] for n in old):
            yield stale("the variables are in another order")

    def parts(self, at: StepAt[EnvLock]) -> Iterator[Part]:
        for variable in at.step.variables:
            yield Part(sort=Sort.VARIABLE, name=variable.name, value=variable.value, identity=variable.written)

    def export(self, at: StepAt[EnvLock], exporting: Exporting) -> None:
        """A variable with a credential is not kept in an image: whoever runs it gives it, and steps get it for
        themselves. kubetorch's pods put in what their own variables hold, so there it stands as a reference.
        """
        page = exporting.page
        for variable in at.step.variables:
            exporting.secret.pop(variable.name, None)
            if variable.secrets and page.form.keeps_no_secret:
                exporting.secret[variable.name] = variable
                names = " and ".join(variable.secrets)
                page.comment(f"{variable.name} holds {names}: give it to the container, it is not kept in the image")
            else:
                if not variable.secrets:
                    # A lockfile of before may hold what is refused now.
                    refuse_variable(variable.name, variable.value)
                page.env(variable.name, variable.value, defined=at.lock.environment.keys() - set(variable.secrets))


KIND = VariablesKind()
