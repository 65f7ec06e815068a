"""Locking a shell step: record what it fetches, keep what it makes, and see whether it makes that again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from klock.debian.dpkg_status import STATUS_FILE, installed_packages
from klock.digests import hex_of
from klock.errors import StepFailed
from klock.layers.differences import explain
from klock.lockfile.model import KeptLayer, ShellLock
from klock.recorder import ROUNDS, Report
from klock.recorder.permanent_urls import is_permanent
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.kind import layer_lock_of
from klock.steps.shell.recorded import record_shell, replay_shell
from klock.words import listed
from klock.workshop.protocol import Layer, Workspace

__all__ = ["lock_shell_step"]

APART: Final = 1.0
"""Seconds from the beginning of a step's first run to that of the second, at least."""


def lock_shell_step(at: StepAt[ShellLock], context: Context) -> ShellLock:
    """A draft, completed: with its requests and its layer, which is in the store then.

    Raises StepFailed when it fails, when something it wants from the network cannot be locked, and when a second run
    with the same answers makes another layer.
    """
    started = time.time()
    step, layer = _record(at, context)
    for request in step.requests:
        if request.sha256 is not None and not is_permanent(request):
            context.store.keep_blob(f"sha256:{request.sha256}")
    if at.step.keep_layer:
        return replace(step, kept=_keep(layer, context))
    # A command that writes the time would write the same one again within a second.
    time.sleep(max(0.0, APART - (time.time() - started)))
    made = replace(at.lock, steps=(*at.before.steps, step))
    _repeat(context.at(made, at.position), layer, context)
    return step


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
            layer = workspace.snapshot(leave_out=step.leave_out)
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


def _keep(layer: Layer, context: Context) -> KeptLayer:
    """The layer as an artifact of the store."""
    with context.store.temporary_file() as archive:
        context.workshop.write_layer(layer.digest, archive)
        with open(archive, "rb") as file:
            digest, size = context.store.add_blob(iter(lambda: file.read(1 << 20), b""), source="the kept layer")
    context.store.keep_blob(digest)
    return KeptLayer(sha256=hex_of(digest), size=size)


def _repeat(at: StepAt[ShellLock], first: Layer, context: Context) -> None:
    """Replays the step once. Raises StepFailed with the paths when it makes another layer."""
    step = at.step
    context.progress.begin("once more, with the recorded answers")
    with context.workshop.open(at.lock.base.id, at.below) as workspace:
        replay_shell(at, workspace, context, again=True)
        second = workspace.snapshot(leave_out=step.leave_out)
    if second.digest != first.digest:
        raise StepFailed(
            f"{at.name} makes something else each time it runs: {at.text}" + _differences(at, first, second, context),
            hint="make the command repeat itself; or leave these paths out of the layer, run_bash(..., "
            "leave_out=[...]); or keep what it made just now, run_bash(..., keep_layer=True)",
        )
    context.progress.done("the same")


def _differences(at: StepAt[ShellLock], first: Layer, second: Layer, context: Context) -> str:
    with (
        context.workshop.open(at.lock.base.id, [*at.below, first.digest]) as one,
        context.workshop.open(at.lock.base.id, [*at.below, second.digest]) as other,
    ):
        found = explain(first.manifest, second.manifest, lambda which, path: (one, other)[which].read(f"/{path}"))
    return listed(f"/{d.path} {d.what}" + (f": {d.reason}" if d.reason else "") for d in found)


def _debian_packages(workspace: Workspace) -> Mapping[str, str]:
    """The version of each installed Debian package, by its qualified name."""
    status = workspace.read(STATUS_FILE) or b""
    return {package.qualified_name: package.version for package in installed_packages(status)}


def _added(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [f"{name} {version}" for name, version in sorted(after.items()) if before.get(name) != version]
