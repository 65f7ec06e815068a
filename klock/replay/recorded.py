"""Shell steps and the recorder: what a step fetches is written down once, and given to it again at each replay.

A step passes only if its command does and no request of it was refused: a download that was refused may leave a page of
words behind, and an exit status of 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final
from urllib.parse import urlsplit

from klock.errors import StepFailed
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.lockfile.model import ShellLock, TargetLock
from klock.plan import counted, describe
from klock.recorder import Recorder, Report, recording, replaying
from klock.recorder.names import Names
from klock.replay.context import Context
from klock.replay.leaks import refuse_leaks
from klock.replay.shell import shell_command
from klock.replay.variables import revealed_variables, secret_values
from klock.secrets.masking import masked, masked_tail
from klock.secrets.references import reveal
from klock.workshop.protocol import RESOLVER, Completed, Workspace

__all__ = ["record_shell", "replay_shell"]

_MOST_SHOWN: Final = 20
_PORT: Final = re.compile(r"://[^\s/?#'\"]{0,255}:(\d{1,5})(?![\d@])")


def record_shell(
    lock: TargetLock, position: int, workspace: Workspace, context: Context, *, ports: Sequence[int] = ()
) -> Report:
    """Runs the shell step at `position` and returns what it fetched. `ports` are open to it besides those it names.

    A report with `ports` says where the step also wanted to go, and nothing else of it counts: run the step again, in a
    new workspace. Offline there is nothing to record, and a request fails the step. Raises StepFailed.
    """
    step = _shell_step(lock, position)
    if context.offline:
        return replay_shell(lock, position, workspace, context)
    texts = (step.command, *revealed_variables(lock, position, context.environ).values())
    named = {int(port) for text in texts for port in _PORT.findall(text)}
    recorder = recording(
        store=context.store,
        ports=sorted({*ports, *(port for port in named if 0 < port < 65536)}),
        secrets=secret_values(lock, context),
        private_urls=step.private_urls,
        local_hosts=context.local_hosts,
    )
    return _run(lock, position, workspace, context, recorder)


def replay_shell(lock: TargetLock, position: int, workspace: Workspace, context: Context) -> Report:
    """Runs the shell step at `position`, which gets the locked answers and no others. Raises StepFailed."""
    step = _shell_step(lock, position)
    recorder = replaying(
        step.requests,
        unknown_hosts=step.unknown_hosts,
        store=context.store,
        secrets=secret_values(lock, context),
        private_urls=step.private_urls,
        offline=context.offline,
        local_hosts=context.local_hosts,
    )
    return _run(lock, position, workspace, context, recorder)


def _shell_step(lock: TargetLock, position: int) -> ShellLock:
    step = lock.steps[position]
    assert isinstance(step, ShellLock)
    return step


def _run(
    lock: TargetLock,
    position: int,
    workspace: Workspace,
    context: Context,
    starting: AbstractContextManager[Recorder],
) -> Report:
    step = _shell_step(lock, position)
    variables: Mapping[str, str] = {**STEP_ENVIRONMENT, **revealed_variables(lock, position, context.environ)}
    text = reveal(step.command, step.secrets, context.environ)
    secrets = secret_values(lock, context)
    with masked(context.progress.output, secrets) as on_output, starting as recorder:
        command = shell_command(step, text, base=lock.base, variables=variables, network=recorder.uplink)
        completed = workspace.run(command, on_output=on_output)
        report = recorder.finish()
    if not report.ports:
        _judge(lock, position, context, completed, report)
        traces = [*recorder.traces, *_addresses(report)]
        refuse_leaks(lock, position, workspace, context, met=report.private, traces=traces)
    return report


def _addresses(report: Report) -> list[bytes]:
    """The addresses that names lead to here and nowhere else, as text."""
    names = Names(lambda name: True)
    hosts = {urlsplit(request.url).hostname or "" for request in report.requests}
    return [RESOLVER.encode(), *(names.address_of(host).encode() for host in sorted(hosts))]


def _judge(lock: TargetLock, position: int, context: Context, completed: Completed, report: Report) -> None:
    """Raises StepFailed when the command failed, or anything it wanted from the network was refused."""
    step = _shell_step(lock, position)
    where = f"step {position + 1}{context.where(position)}"
    secrets = [*secret_values(lock, context), *report.private]
    refused = "".join(f"\n  {line}" for line in report.refused[:_MOST_SHOWN])
    if len(report.refused) > _MOST_SHOWN:
        refused += f"\n  and {len(report.refused) - _MOST_SHOWN} more"
    tail = masked_tail(completed.output, secrets)
    if completed.status != 0:
        because = f"\nrefused:{refused}" if refused else ""
        raise StepFailed(
            f"{where} failed with status {completed.status}: {describe(step)}{tail}{because}",
            hint="mend the command, then run klock again: the steps before it are kept",
        )
    if refused:
        count = counted(len(report.refused), "request")
        raise StepFailed(
            f"{where} ended with status 0, but {count} of it {'was' if len(report.refused) == 1 else 'were'} refused: "
            f"{describe(step)}{refused}{tail}",
            hint="a step gets from the network what was locked, by HTTP and HTTPS, and nothing else; if its inputs "
            "should change, run `klock lock`",
        )
