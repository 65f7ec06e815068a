"""`klock check`: say what no longer agrees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from klock.commands.session import Session, engine_option, image_argument, open_session, target_option
from klock.findings import Code, Finding

if TYPE_CHECKING:
    from klock.engines.protocol import Environment
    from klock.layers.manifest import Manifest
    from klock.lockfile.model import Lockfile, TargetLock

__all__ = ["check"]


@click.command()
@image_argument
@target_option
@engine_option
@click.option("--env", "with_environment", is_flag=True, help="Also compare the synced environment, file by file.")
@click.option("--container", metavar="NAME", help="Compare a container that was started from the environment's image.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How findings are printed.")
def check(
    image: str | None,
    *,
    target: str | None,
    engine: str | None,
    with_environment: bool,
    container: str | None,
    form: str,
) -> int:
    """Say where image, lockfile and environment no longer agree. Uses no network.

    Exit status: 0 when all agree, 1 with findings, 2 when that cannot be told.
    """
    from klock.commands.judge import line_of, stale_findings
    from klock.plan import counted

    session = open_session(image, engine=engine)
    lock = session.read_lockfile()
    findings = stale_findings(session, lock)
    with_environment = with_environment or container is not None
    drifted = False
    if with_environment:
        locked = session.locked_target(lock, target)
        session = session.with_engine(locked)
        drift = _drift_findings(session, locked, container)
        drifted = any(finding.code.is_drift for finding in drift)
        findings += drift
    _say_driver(lock)
    if form == "json":
        click.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.code.value}: {line_of(finding)}")
    if drifted and _store_is_damaged(session, locked):
        click.echo(
            "hint: nothing was written to the environment, so the store was: klock cache clean, klock sync", err=True
        )
    if findings:
        click.echo(counted(len(findings), "finding"), err=True)
        return 1
    agree = "image, lockfile and environment agree" if with_environment else "image and lockfile agree"
    click.echo(agree, err=True)
    return 0


def _say_driver(lock: Lockfile) -> None:
    """Facts of the machine, which are no findings: the driver, where a target needs one."""
    if all(locked.target.accelerator == "cpu" for locked in lock.targets):
        return
    from klock.gpu.driver import find_driver

    click.echo(f"this machine: {find_driver() or 'no NVIDIA driver'}", err=True)


def _store_is_damaged(session: Session, locked: TargetLock) -> bool:
    """Whether drift is in the layers below the environment: a sync would not see it."""
    if session.engine.name == "here":
        return False
    environment = session.engine.environment(session.environment_name(locked))
    return environment.record is not None and environment.is_clean()


def _drift_findings(session: Session, locked: TargetLock, container: str | None) -> list[Finding]:
    """The environment against the lockfile, by content."""
    from klock.drift import compare_files, compare_variables

    if session.engine.name == "here":
        return _drift_here(session, locked)
    engine = session.engine
    environment = engine.environment(session.environment_name(locked))
    record = environment.record
    if record is None:
        return [Finding(code=Code.NOT_SYNCED, message="there is no environment yet: run `klock sync`")]
    missing = not engine.has_base(locked.base.id) or any(not engine.has_layer(d) for d in locked.layers)
    if record.get("fingerprint") != locked.fingerprint and missing:
        return [
            Finding(code=Code.NOT_SYNCED, message="the environment was synced from another lockfile: run `klock sync`")
        ]
    expected = engine.base_manifest(locked.base.id)
    layers = []
    for digest in locked.layers:
        layer = engine.layer_manifest(digest)
        if layer is None:
            return [Finding(code=Code.NOT_SYNCED, message=f"the layer {digest} is not in the store: run `klock sync`")]
        layers.append(layer)
        expected = expected.apply(layer)
    observed = environment.observe() if container is None else _observe_container(environment, container)
    variables = record.get("variables")
    findings = list(compare_files(expected, layers, observed))
    findings += compare_variables(locked.environment, variables if isinstance(variables, dict) else {})
    return [_with_step(f, session, locked) for f in findings]


def _drift_here(session: Session, locked: TargetLock) -> list[Finding]:
    """The container klock runs in, against the locked layers over what else the last sync left in it."""
    from klock.drift import compare_files, compare_variables
    from klock.engines.here import HereEngine
    from klock.engines.here.state import FORCED

    assert isinstance(session.engine, HereEngine)
    environment = session.engine.environment(session.environment_name(locked))
    record = environment.record or {}
    findings = []
    if record.get("fingerprint") == FORCED:
        findings.append(Finding(code=Code.NOT_SYNCED, message="this container was forced: it is not what is locked"))
        if environment.layers != list(locked.layers):
            return findings
    elif record.get("fingerprint") != locked.fingerprint:
        return [Finding(code=Code.NOT_SYNCED, message="this container was not synced from it: run `klock sync --here`")]
    layers = [session.engine.folder.layer(digest) for digest in locked.layers]
    project = str(session.loaded.root.resolve()) + "/"
    variables = record.get("variables")
    findings += [
        finding
        for finding in compare_files(environment.expected(), layers, environment.observe())
        if finding.step is not None or not f"{finding.path}/".startswith(project)
    ]
    findings += compare_variables(locked.environment, variables if isinstance(variables, dict) else {})
    return [_with_step(finding, session, locked) for finding in findings]


def _observe_container(environment: Environment, container: str) -> Manifest:
    from klock.engines.containers.environment import ContainerEnvironment
    from klock.errors import KlockError

    if not isinstance(environment, ContainerEnvironment):
        raise KlockError("--container names a container of podman or docker", hint="add --engine podman, or docker")
    return environment.observe_container(container)


def _with_step(finding: Finding, session: Session, locked: TargetLock) -> Finding:
    """`finding.step` counts layers; made to count steps, with the builder call."""
    import dataclasses

    from klock.lockfile.model import EnvLock, ServiceLock

    if finding.step is None:
        return finding
    positions = [n for n, s in enumerate(locked.steps) if not isinstance(s, EnvLock | ServiceLock)]
    position = positions[finding.step - 1]
    locations = session.locations
    return dataclasses.replace(
        finding, step=position + 1, location=locations[position] if position < len(locations) else None
    )
