"""`run_bash`: a shell command, every answer that it gets from the network, and the layer it makes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klock.digests import Digest
from klock.findings import Finding
from klock.image.steps import RunBash, RunCommand
from klock.lockfile.model import ShellLock
from klock.secrets.references import redact, refuse_literals
from klock.steps.at import StepAt
from klock.steps.kind import UNKNOWN_LAYER, Fetched, Input, Kind, Look, Made, OpenBelow
from klock.steps.parts import Part, Sort
from klock.steps.shell.rights import refuse_sudo
from klock.steps.staleness import changed, changed_options
from klock.words import counted, in_bytes

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.steps.context import Context
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.unrepeatable import Unrepeatable
    from klock.workshop.protocol import Layer, Workspace

__all__ = ["KIND", "described_command"]


_FUNCTION: Final = re.compile(r"cat > \S+ <<'end of (?P<name>\w+)\.*'")
"""What a command of `run_function` begins with (`klock.image.functions`)."""


def described_command(command: str, *, method: str = "run_bash") -> str:
    """`run_bash make install`: its first line, at most 60 characters. `run_function NAME` for a command that is one."""
    first, _, more = command.strip().partition("\n")
    if match := _FUNCTION.fullmatch(first):
        return f"run_function {match['name']}"
    return f"{method} " + (first[:57] + "..." if len(first) > 60 or more else first)


class ShellKind(Kind[RunBash | RunCommand, ShellLock]):
    method = "run_bash"
    runs_commands = True

    def describe(self, step: ShellLock) -> str:
        if step.shell or step.words:
            return described_command(step.command or shlex.join(step.words), method="run")
        return described_command(step.command)

    def texts(self, step: ShellLock) -> Sequence[str]:
        return (step.command, *step.words)

    def draft(self, step: RunBash | RunCommand, drafting: Drafting) -> ShellLock:
        if isinstance(step, RunCommand):
            from klock.steps.shell.dockerfile import draft_command

            return draft_command(step, drafting)
        refuse_sudo(step.command, user=drafting.user)
        command = redact(step.command, drafting.environ, what="the command of run_bash", used=drafting.used)
        for pattern in step.private_urls:
            refuse_literals(pattern, what="private_urls of run_bash")
        return ShellLock(
            command=command.text,
            shell=drafting.named_shell,
            layer=UNKNOWN_LAYER,
            secrets=command.names,
            force=step.force,
            leave_out=step.leave_out,
            keep_layer=step.keep_layer,
            private_urls=step.private_urls,
        )

    def as_draft(self, step: ShellLock) -> ShellLock:
        return replace(step, kept=None, installed=(), unknown_hosts=(), requests=(), layer=UNKNOWN_LAYER)

    def changes(self, before: ShellLock, after: ShellLock) -> Iterator[Finding]:
        if before.command != after.command:
            yield changed("run_bash", before.command, after.command)
        for name in ("private_urls", "shell", "words", "is_script", "mounts", "keep", "without_network"):
            old, new = getattr(before, name), getattr(after, name)
            if old != new:
                yield changed(name, str(old), str(new))
        yield from changed_options(before, after)

    def parts(self, at: StepAt[ShellLock]) -> Iterator[Part]:
        yield from super().parts(at)
        for package in at.step.installed:
            name, _, version = package.partition(" ")
            yield Part(sort=Sort.DEB, name=name, value=version)
        for request in at.step.requests:
            turn = f" (turn {request.turn})" if request.turn is not None else ""
            size = request.size if request.sha256 is not None else 0
            yield Part(
                sort=Sort.REQUEST,
                name=f"{request.method} {request.url}{turn}",
                value=f"status {request.status}, {in_bytes(request.size)}",
                identity=request.sha256 or "",
                size=size,
            )
        for host in at.step.unknown_hosts:
            yield Part(sort=Sort.REQUEST, name=host, value="no such name")

    def source(self, step: RunBash | RunCommand) -> Path | None:
        """The build context, for a command that sees files of it."""
        mounts = step.mounts if isinstance(step, RunCommand) else ()
        is_bound = any(mount.kind == "bind" and mount.stage is None for mount in mounts)
        return Path(step.context) if isinstance(step, RunCommand) and is_bound else None

    def copied_paths(self, step: ShellLock) -> Iterator[str]:
        return (entry.path for entry in step.mounted)

    # -- locking

    def unrepeatable(self, at: StepAt[ShellLock]) -> Sequence[Unrepeatable]:
        from klock.steps.unrepeatable import in_command, not_covered

        step = at.step
        found = in_command(step.command or shlex.join(step.words), at.before.seen_environment)
        return () if step.keep_layer else not_covered(found, step.leave_out)

    def before_it_ran(self, step: ShellLock) -> ShellLock:
        return replace(step, requests=(), unknown_hosts=())

    def kept(self, completed: ShellLock, before: ShellLock) -> ShellLock:
        """With its requests; of any other kind all but the layer was completed anew."""
        return before

    def remembers(self, step: ShellLock) -> bool:
        """What it fetches is found out only by running it."""
        return False

    def make(self, at: StepAt[ShellLock], context: Context) -> Made[ShellLock]:
        from klock.steps.shell.locking import lock_shell_step

        return lock_shell_step(at, context)

    def result(self, step: ShellLock) -> str:
        """`12 entries, 5 requests, 3.4 MB`"""
        words = counted(step.layer.files, "entry")
        if step.requests:
            size = sum(request.size for request in step.requests if request.sha256 is not None)
            words += f", {counted(len(step.requests), 'request')}, {in_bytes(size)}"
        return words

    def lapsing(self, step: ShellLock) -> Mapping[Digest, int]:
        from klock.recorder.permanent_urls import is_permanent

        return {f"sha256:{r.sha256}": r.size for r in step.requests if r.sha256 is not None and not is_permanent(r)}

    def moved(self, at: StepAt[ShellLock], context: Context, asker: Asker) -> Iterator[Finding]:
        from klock.steps.shell.moved import moved_answers

        return moved_answers(at, context, asker)

    # -- replay

    def content(self, at: StepAt[ShellLock], *, python_path: str | None, install_cmd: str | None) -> list[Any]:
        from klock.lockfile.codec import encode

        step = at.step
        network = [[encode(request) for request in step.requests], list(step.unknown_hosts)]
        ways = [list(step.leave_out), step.keep_layer, list(step.private_urls)]
        before = at.before
        variables = sorted(before.seen_environment.items())
        content = ["run_bash", step.command, ways, before.working_dir, variables, network]
        if step.shell or step.words:
            mounts = [[encode(each) for each in mounted] for mounted in (step.mounts, step.mounted)]
            stages = [at.lock.locks_of_stages[mount.stage] for mount in step.mounts if mount.stage is not None]
            origins = [[stage.base.id, *stage.layers] for stage in stages]
            content.append([list(step.shell), list(step.words), step.is_script, *mounts, list(step.keep), *origins])
        if step.without_network:
            content.append("without network")
        return content

    def fetched(self, at: StepAt[ShellLock]) -> Iterator[Fetched]:
        yield from at.step.requests

    def inputs_to_run(self, at: StepAt[ShellLock]) -> Iterator[Input]:
        from klock.recorder.permanent_urls import is_permanent

        for request in at.step.requests:
            if request.sha256 is not None:
                yield Input(
                    digest=f"sha256:{request.sha256}",
                    size=request.size,
                    name=f"{request.method} {request.url}",
                    permanent=is_permanent(request),
                )

    def bring_in(
        self, at: StepAt[ShellLock], wanted: Set[Digest], context: Context, *, open_below: OpenBelow
    ) -> Iterator[Callable[[], None]]:
        from klock.steps.shell.answers import fetch_answers

        yield lambda: fetch_answers(at.step.requests, wanted, context)

    def perform(self, at: StepAt[ShellLock], workspace: Workspace, context: Context) -> None:
        from klock.steps.shell.recorded import replay_shell

        search = replay_shell(at, workspace, context)
        search()

    def produce(
        self, at: StepAt[ShellLock], context: Context, *, varied: bool = False, look: Look = lambda _: None
    ) -> Layer:
        """As any step, but to search all that it wrote takes time, and another layer than the locked one is rare."""
        from klock.steps.shell.recorded import replay_shell

        with context.workshop.open(at.lock.base.id, at.below, varied=varied) as workspace:
            search = replay_shell(at, workspace, context)
            look(workspace)
            locked = at.step.layer.digest
            return self.taken(at, workspace, context, look=lambda made: search() if made != locked else None)

    # -- export

    def export(self, at: StepAt[ShellLock], exporting: Exporting) -> None:
        from klock.steps.shell.export import write_shell_step

        write_shell_step(
            exporting.page,
            at.step,
            variables=exporting.secret,
            folder=at.folder,
            source=at.source,
            stages=[stage.name for stage in at.lock.stages],
        )


KIND = ShellKind()
