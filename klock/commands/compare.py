"""Compares an environment with what is locked, by content: the findings of `klock check --env`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from klock.commands.session import Session
from klock.drift import compare_files, compare_settings, compare_variables
from klock.findings import Code, Finding
from klock.lockfile.model import EnvLock, ServiceLock, TargetLock
from klock.places.working_dir import folders_to, without_made_folders

if TYPE_CHECKING:
    from klock.layers.manifest import Manifest
    from klock.workshop.protocol import Environment

__all__ = ["drift_findings", "store_is_damaged"]


def drift_findings(session: Session, locked: TargetLock, container: str | None) -> list[Finding]:
    """The environment against the lockfile, by content."""
    if session.engine.name == "here":
        return _drift_here(session, locked)
    environment = session.engine.environment(session.environment_name(locked))
    if container is not None:
        return _drift_of_container(session, locked, environment, container)
    record = environment.record or {}
    if (problem := _not_synced(environment, locked)) or (problem := _not_in_store(session, locked)):
        return [problem]
    expected, layers = _locked_files(session, locked)
    observed = without_made_folders(environment.observe(), expected, folders_to(locked.base.working_dir, expected))
    findings = list(compare_files(expected, layers, observed))
    if session.engine.name == "sandbox":
        from klock.places.sandbox.environment import SandboxEnvironment

        assert isinstance(environment, SandboxEnvironment)
        if environment.has_another_root:
            findings.append(Finding(code=Code.MODIFIED, message="/ differs: mode or owner", path="/"))
        variables = record.get("variables")
        findings += compare_variables(locked.environment, variables if isinstance(variables, dict) else {})
    else:
        findings += _drift_of_image(environment, locked, is_known=bool(findings))
    return [_with_step(f, session, locked) for f in findings]


def _not_synced(environment: Environment, locked: TargetLock) -> Finding | None:
    """Why there is nothing to compare: hundreds of files would only say that it is another environment."""
    record = environment.record
    if record is not None and record.get("fingerprint") == locked.fingerprint:
        return None
    from klock.places.containers.environment import ContainerEnvironment

    if record is not None:
        message = "the environment was synced from another lockfile: run `klock sync`"
    elif isinstance(environment, ContainerEnvironment) and environment.exists:
        message = f"the image {environment.tag} is not one that klock synced: run `klock sync`"
    else:
        message = "there is no environment yet: run `klock sync`"
    return Finding(code=Code.NOT_SYNCED, message=message)


def _not_in_store(session: Session, locked: TargetLock) -> Finding | None:
    """What is missing to know what was locked."""
    engine = session.engine
    if not engine.has_base(locked.base.id):
        return Finding(code=Code.NOT_SYNCED, message="the base is not in the store: run `klock sync`")
    for digest in locked.layers:
        if not engine.has_layer(digest):
            return Finding(code=Code.NOT_SYNCED, message=f"the layer {digest} is not in the store: run `klock sync`")
    return None


def _locked_files(session: Session, locked: TargetLock) -> tuple[Manifest, list[Manifest]]:
    """All that base and layers make together, and the layers, which are in the store."""
    expected = session.engine.base_manifest(locked.base.id)
    layers = []
    for digest in locked.layers:
        layer = session.engine.layer_manifest(digest)
        assert layer is not None
        layers.append(layer)
        expected = expected.apply(layer)
    return expected, layers


def _drift_of_image(environment: Environment, locked: TargetLock, *, is_known: bool) -> list[Finding]:
    """How the image's containers start, against the lockfile. `is_known`: that it is another image was said already."""
    from klock.places.containers.environment import ContainerEnvironment
    from klock.places.containers.start_options import expected_start_options
    from klock.replay import image_config

    assert isinstance(environment, ContainerEnvironment)
    expected, found = expected_start_options(image_config(locked)), environment.start_options()
    # Of a variable that holds a secret nothing is locked but the reference, and no value may be shown.
    secret = locked.environment.keys() - expected.variables.keys()
    variables = {name: value for name, value in found.variables.items() if name not in secret}
    findings = list(compare_variables(expected.variables, variables))
    findings += compare_settings(expected.settings, found.settings)
    if not findings and not is_known and not environment.is_clean():
        message = f"the image {environment.tag} is not the one that was synced: run `klock sync`"
        findings.append(Finding(code=Code.SETTING, message=message))
    return findings


def _drift_of_container(
    session: Session, locked: TargetLock, environment: Environment, container: str
) -> list[Finding]:
    """A container that somebody started, against the lockfile. It may have more variables than are locked."""
    from klock.places.containers.environment import ContainerEnvironment
    from klock.replay import image_config

    assert isinstance(environment, ContainerEnvironment)
    fingerprint, options = environment.describe_container(container)
    if fingerprint not in (None, locked.fingerprint):
        message = f"the container {container} is of another lockfile: run `klock sync`, and start it from the new image"
        return [Finding(code=Code.NOT_SYNCED, message=message)]
    if (problem := _not_in_store(session, locked)) is not None:
        return [problem]
    expected, layers = _locked_files(session, locked)
    findings = list(compare_files(expected, layers, environment.observe_container(container, expected)))
    variables = image_config(locked).environment
    findings += compare_variables(variables, {n: v for n, v in options.variables.items() if n in variables})
    return [_with_step(f, session, locked) for f in findings]


def _drift_here(session: Session, locked: TargetLock) -> list[Finding]:
    """The container klock runs in, against the locked layers over what else the last sync left in it."""
    from klock.places.here import HereEngine
    from klock.places.here.state import FORCED

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
    expected = environment.expected()
    observed = without_made_folders(environment.observe(), expected, folders_to(locked.base.working_dir, expected))
    findings += [
        finding
        for finding in compare_files(expected, layers, observed)
        if finding.step is not None or not f"{finding.path}/".startswith(project)
    ]
    findings += compare_variables(locked.environment, variables if isinstance(variables, dict) else {})
    return [_with_step(finding, session, locked) for finding in findings]


def _with_step(finding: Finding, session: Session, locked: TargetLock) -> Finding:
    """`finding.step` counts layers; made to count steps, with the builder call."""
    if finding.step is None:
        return finding
    positions = [n for n, s in enumerate(locked.steps) if not isinstance(s, EnvLock | ServiceLock)]
    position = positions[finding.step - 1]
    locations = session.locations
    return dataclasses.replace(
        finding, step=position + 1, location=locations[position] if position < len(locations) else None
    )


def store_is_damaged(session: Session, locked: TargetLock) -> bool:
    """Whether drift is in the layers below the environment: a sync would not see it."""
    if session.engine.name == "here":
        return False
    environment = session.engine.environment(session.environment_name(locked))
    return (environment.record or {}).get("fingerprint") == locked.fingerprint and environment.is_clean()
