"""Shell steps and the recorder: what a step fetches is written down once, and given to it again at each replay.

A step passes only if its command does and no request of it was refused: a download that was refused may leave a page of
words behind, and an exit status of 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final
from urllib.parse import urlsplit

from klock.errors import StepFailed
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.lockfile.model import ShellLock
from klock.recorder import Report, recording, replaying
from klock.recorder.doors import Where
from klock.recorder.names import Names
from klock.recorder.process import Recorder
from klock.secrets.masking import masked, masked_tail
from klock.secrets.references import reveal
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.leaks import refuse_leaks
from klock.steps.shell.command import as_docker, shell_command
from klock.steps.shell.mounts import mounted_secrets, mounts_of
from klock.steps.shell.proxies import proxies_of
from klock.steps.today import tell_of_today, today
from klock.values import dataclass
from klock.words import counted, listed
from klock.workshop.protocol import RESOLVER, Completed, Network, Workspace

__all__ = ["record_shell", "replay_shell"]

_ERROR: Final = 400
_UNAUTHORIZED: Final = 401
_PORT: Final = re.compile(r"://[^\s/?#'\"]{0,255}:(\d{1,5})(?![\d@])")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """A step that ended well. `private` are credentials that it met, `traces` what gives the recorder away."""

    report: Report
    private: Sequence[str] = ()
    traces: Sequence[bytes] = ()


def record_shell(at: StepAt[ShellLock], workspace: Workspace, context: Context, *, ports: Sequence[int] = ()) -> Report:
    """Runs the shell step and returns what it fetched. `ports` are open to it besides those it names.

    A report with `ports` says where the step also wanted to go, and nothing else of it counts: run the step again, in a
    new workspace. Offline there is nothing to record, and a request fails the step. Raises StepFailed.
    """
    ran = _record(at, workspace, context, ports)
    if not ran.report.ports:
        dates = () if at.step.keep_layer else today()
        if refuse_leaks(at, workspace, context, met=ran.private, traces=ran.traces, besides=dates) and dates:
            tell_of_today(at, workspace, context)
    return ran.report


def replay_shell(at: StepAt[ShellLock], workspace: Workspace, context: Context) -> Callable[[], None]:
    """Runs the shell step, which gets the locked answers and no others. Raises StepFailed.

    Returned is the search for what it may not have written, to be called if it made another layer than the locked one:
    that was searched when it was locked.
    """
    ran = _replay(at, workspace, context)

    def search() -> None:
        refuse_leaks(at, workspace, context, met=ran.private, traces=ran.traces)

    return search


def _record(at: StepAt[ShellLock], workspace: Workspace, context: Context, ports: Sequence[int]) -> _Ran:
    step = at.step
    if context.offline or step.without_network:
        return _replay(at, workspace, context)
    recorder = recording(
        store=context.store,
        ports=sorted({*ports, *_named_ports(at, context)}),
        proxies=_proxies(at, workspace, context),
        secrets=context.secret_values(at.lock),
        private_urls=step.private_urls,
        ca_bundle=context.mirrors.ca_bundle,
        local_hosts=context.local_hosts,
    )
    ran = _run(at, workspace, context, recorder, may_need_ports=True)
    if not ran.report.ports:
        _tell_of_errors(at, ran.report, context)
    return ran


def _replay(at: StepAt[ShellLock], workspace: Workspace, context: Context) -> _Ran:
    step = at.step
    if step.without_network:
        return _run(at, workspace, context, None)
    recorder = replaying(
        step.requests,
        ports=sorted(_named_ports(at, context)),
        proxies=_proxies(at, workspace, context),
        unknown_hosts=step.unknown_hosts,
        store=context.store,
        secrets=context.secret_values(at.lock),
        private_urls=step.private_urls,
        offline=context.offline,
        ca_bundle=context.mirrors.ca_bundle,
        local_hosts=context.local_hosts,
    )
    return _run(at, workspace, context, recorder)


def _run(
    at: StepAt[ShellLock],
    workspace: Workspace,
    context: Context,
    starting: AbstractContextManager[Recorder] | None,
    *,
    may_need_ports: bool = False,
) -> _Ran:
    step, before = at.step, at.before
    variables: Mapping[str, str] = {**STEP_ENVIRONMENT, **at.variables(context.environ)}
    text = reveal(step.command, step.secrets, context.environ)
    mounted = mounted_secrets(step, context.environ)
    secrets = [*context.secret_values(at.lock), *mounted.values()]
    with (
        masked(context.progress.output, secrets) as on_output,
        mounts_of(at, context) as mounts,
        starting or nullcontext() as recorder,
    ):
        network = Network.NONE if recorder is None else recorder.uplink
        command = shell_command(
            text, working_dir=before.working_dir, user=before.user, variables=variables, network=network
        )
        if step.shell or step.words:
            command = as_docker(command, text, step, mounts, secrets=mounted)
        with at.named_in_errors():  # there may be no such user
            completed = workspace.run(command, on_output=on_output)
        report = Report() if recorder is None else recorder.finish()
        found = [] if recorder is None else list(recorder.traces)
    if not (report.ports and may_need_ports):
        _judge(at, context, completed, report)
    return _Ran(report=report, private=[*report.private, *mounted.values()], traces=[*found, *_addresses(report)])


def _named_ports(at: StepAt[ShellLock], context: Context) -> set[int]:
    """The ports in URLs of the command and its variables."""
    texts = (at.step.command, *at.variables(context.environ).values())
    return {number for text in texts for port in _PORT.findall(text) if 0 < (number := int(port)) < 65536}


def _proxies(at: StepAt[ShellLock], workspace: Workspace, context: Context) -> frozenset[Where]:
    return proxies_of(workspace, command=at.step.command, variables=at.variables(context.environ))


def _addresses(report: Report) -> list[bytes]:
    """The addresses that names lead to here and nowhere else, as text."""
    names = Names(lambda name: True)
    hosts = {urlsplit(request.url).hostname or "" for request in report.requests}
    return [RESOLVER.encode(), *(names.address_of(host).encode() for host in sorted(hosts))]


def _tell_of_errors(at: StepAt[ShellLock], report: Report, context: Context) -> None:
    """Warns of answers with an error that the command passed over, as `curl URL | sh` does: they are locked.

    That a server first asks who it is (401) is the usual way.
    """
    served = {request.url for request in report.requests if request.status < _ERROR}
    passed_over = [
        f"{request.method} {request.url}: status {request.status}"
        for request in report.requests
        if request.status >= _ERROR and not (request.status == _UNAUTHORIZED and request.url in served)
    ]
    if passed_over:
        context.progress.warn(
            f"{at.name} ended with status 0 although it got errors, which are locked now:{listed(passed_over, most=5)}"
        )


def _judge(at: StepAt[ShellLock], context: Context, completed: Completed, report: Report) -> None:
    """Raises StepFailed when the command failed, or anything it wanted from the network was refused."""
    secrets = [
        *context.secret_values(at.lock),
        *report.private,
        *mounted_secrets(at.step, context.environ).values(),
    ]
    refused = listed(report.refused)
    tail = masked_tail(completed.output, secrets)
    if completed.status != 0:
        because = f"\nrefused:{refused}" if refused else ""
        raise StepFailed(
            f"{at.name} failed with status {completed.status}: {at.text}{tail}{because}",
            hint="fix the command and run klock again: the steps before it are kept",
        )
    if refused:
        count = counted(len(report.refused), "request")
        raise StepFailed(
            f"{at.name} ended with status 0, but klock refused {count}: {at.text}{refused}{tail}",
            hint="use only HTTP and HTTPS in the step; if it must fetch something new, run `klock lock`",
        )
