"""`run_bash("... &")`: a command that runs beside every command of the environment. It makes no layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from klock.findings import Finding
from klock.image.steps import RunBash
from klock.lockfile.model import ServiceLock, TargetLock
from klock.secrets.references import redact, refuse_literals, reveal
from klock.steps.at import StepAt, revealed_variables
from klock.steps.kind import Kind
from klock.steps.parts import Part, Sort
from klock.steps.shell import described_command
from klock.steps.staleness import changed

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.workshop.protocol import Command, Workspace

__all__ = ["KIND"]


class ServiceKind(Kind[RunBash, ServiceLock]):
    method = "run_bash"
    is_service = True

    def describe(self, step: ServiceLock) -> str:
        return described_command(step.command)

    def draft(self, step: RunBash, drafting: Drafting) -> ServiceLock:
        command = redact(step.command, drafting.environ, what="the command of run_bash", used=drafting.used)
        if step.wait_for is not None:
            refuse_literals(step.wait_for, what="wait_for of run_bash")
        return ServiceLock(command=command.text, secrets=command.names, wait_for=step.wait_for)

    def as_draft(self, step: ServiceLock) -> ServiceLock:
        return step

    def changes(self, before: ServiceLock, after: ServiceLock) -> Iterator[Finding]:
        if before.command != after.command:
            yield changed("run_bash", before.command, after.command)
        if before.wait_for != after.wait_for:
            yield changed("wait_for", str(before.wait_for), str(after.wait_for))

    def parts(self, at: StepAt[ServiceLock]) -> Iterator[Part]:
        yield Part(sort=Sort.SERVICE, name=self.describe(at.step), identity=f"{at.step.command}\0{at.step.wait_for}")

    def result(self, step: ServiceLock) -> str:
        return "tried at the end"

    def service(
        self,
        step: ServiceLock,
        *,
        lock: TargetLock,
        variables: Mapping[str, str],
        environ: Mapping[str, str],
    ) -> Command:
        """In the foreground: its final `&` is dropped, since klock itself watches it."""
        from klock.steps.shell.command import shell_command
        from klock.workshop.protocol import Network

        text = reveal(step.command, step.secrets, environ).rstrip().removesuffix("&").rstrip()
        return shell_command(
            text, working_dir=lock.working_dir, user=lock.user, variables=variables, network=Network.HOST
        )

    def try_out(self, at: StepAt[ServiceLock], workspace: Workspace, context: Context) -> None:
        from klock.secrets.masking import masked_tail
        from klock.workshop.protocol import Completed, Network, Uplink

        variables = revealed_variables(at.lock, context.environ)
        command = self.service(at.step, lock=at.lock, variables=variables, environ=context.environ)

        def run(network: Network | Uplink) -> Completed:
            ended = workspace.run_service(replace(command, network=network))
            return ended or Completed(status=0, output=b"")

        completed = run(Network.NONE) if context.offline else context.passes(at.lock).run(run)[0]
        if completed.status != 0:
            raise at.failed(
                f": the service ended with status {completed.status} within 0.5 s: {at.text}"
                + masked_tail(completed.output, context.secret_values(at.lock)),
                hint="to see everything it prints, remove the & at its end and run `klock lock -v`",
            )

    def export(self, at: StepAt[ServiceLock], exporting: Exporting) -> None:
        from klock.pages.page import Form
        from klock.steps.service.export import write_service

        if exporting.page.form is Form.KUBETORCH:
            write_service(exporting.page, at.step)
        else:
            exporting.page.comment("a service: started by the container's entrypoint, see below")
            exporting.services.append(at.step)


KIND = ServiceKind()
