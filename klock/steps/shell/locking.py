"""Locking a shell step: record what it fetches, keep what it makes, and see whether it makes that again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from klock.debian.dpkg_status import STATUS_FILE, installed_packages
from klock.errors import StepFailed
from klock.forks import Tally
from klock.lockfile.model import ShellLock
from klock.recorder import ROUNDS, Report
from klock.recorder.permanent_urls import is_permanent
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.kind import Made, layer_lock_of
from klock.steps.repeating import keep_layer, prove_that_it_repeats
from klock.steps.shell.recorded import record_shell
from klock.workshop.protocol import Layer, Workspace

__all__ = ["lock_shell_step"]

APART: Final = 1.0
"""Seconds from the beginning of a step's first run to that of the second, at least."""


def lock_shell_step(at: StepAt[ShellLock], context: Context) -> Made[ShellLock]:
    """A draft, completed: with its requests and its layer, which is in the store then. Its proof gets the same answers.

    Raises StepFailed when it fails, and when something it wants from the network cannot be locked.
    """
    started = time.time()
    step, layer = _record(at, context)
    for request in step.requests:
        if request.sha256 is not None and not is_permanent(request):
            context.store.keep_blob(f"sha256:{request.sha256}")
    if at.step.keep_layer:
        return Made(step=replace(step, kept=keep_layer(layer, context)))

    def prove(context: Context) -> None:
        # A command that writes the time would write the same one again within a second.
        time.sleep(max(0.0, APART - (time.time() - started)))
        made = replace(at.lock, steps=(*at.before.steps, step))
        prove_that_it_repeats(context.at(made, at.position), layer, context)

    return Made(step=step, prove=prove)


def _record(at: StepAt[ShellLock], context: Context) -> tuple[ShellLock, Layer]:
    """Runs the step, again when it turned out that it needs other ports than those of HTTP."""
    step = at.step
    ports: set[int] = set()
    for _ in range(ROUNDS):
        with context.workshop.open(at.lock.base.id, at.below) as workspace:
            before = _debian_packages(workspace)
            report = record_shell(at, workspace, context, ports=sorted(ports))
            if report.ports:
                ports.update(report.ports)
                continue
            installed = _debian_packages(workspace)
            tally = Tally("files")
            with context.progress.stage("hash", tally):
                layer = workspace.snapshot(leave_out=step.leave_out, keep=step.keep, tally=tally)
        return _completed(step, report, layer, installed=_added(before, installed)), layer
    raise StepFailed(
        f"{at.name} tries another port each time it runs: {at.text}",
        hint=f"make the command use the same ports in each run; it tried {', '.join(map(str, sorted(ports)))}",
    )


def _completed(step: ShellLock, report: Report, layer: Layer, *, installed: Sequence[str]) -> ShellLock:
    return replace(
        step,
        layer=layer_lock_of(layer.manifest),
        installed=tuple(installed),
        unknown_hosts=report.unknown_hosts,
        requests=report.requests,
    )


def _debian_packages(workspace: Workspace) -> Mapping[str, str]:
    """The version of each installed Debian package, by its qualified name."""
    status = workspace.read(STATUS_FILE) or b""
    return {package.qualified_name: package.version for package in installed_packages(status)}


def _added(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [f"{name} {version}" for name, version in sorted(after.items()) if before.get(name) != version]
