"""Brings what a pip step needs into the store for a vault: fetched, or built once more."""

from __future__ import annotations

from collections.abc import Set

from klock.digests import Digest
from klock.lockfile.model import PipLock, VcsArtifact, WheelArtifact
from klock.packages.fetch import fetch_artifacts
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.kind import OpenBelow
from klock.steps.pip.credentials import index_credentials
from klock.targets import Target

__all__ = ["build_wheels", "fetch_wanted"]


def fetch_wanted(at: StepAt[PipLock], wanted: Set[Digest], context: Context) -> None:
    """Fetches the `wanted` artifacts of the whole lock, if the step is the first of its kind."""
    pip_steps = [other for other in context.each(at.lock) if isinstance(other.step, PipLock)]
    if at.position != pip_steps[0].position:
        return
    artifacts = [package.artifact for package in at.lock.packages]
    missing = [
        artifact
        for artifact in artifacts
        if not isinstance(artifact, VcsArtifact)
        and f"sha256:{artifact.sha256}" in wanted
        and context.store.find_blob(f"sha256:{artifact.sha256}") is None
    ]
    if missing:
        credentials = index_credentials(pip_steps, context)
        fetch_artifacts(
            missing,
            store=context.store,
            credentials=credentials,
            of=at.lock.packages,
            progress=context.progress,
        )


def build_wheels(at: StepAt[PipLock], wanted: Set[Digest], context: Context, open_below: OpenBelow) -> None:
    """Builds the wheels that the step builds again, if one is missing, and compares the hash."""
    from klock.steps import kind_of
    from klock.steps.pip.composing import Composition

    if at.lock.target.platform != Target.of_this_machine().platform:
        return
    packages = at.lock.packages_by_pin
    artifacts = [packages[pin].artifact for pin in at.step.packages]
    built = {f"sha256:{a.wheel.sha256}" for a in artifacts if not isinstance(a, WheelArtifact)}
    if any(context.store.find_blob(digest) is None for digest in built & wanted):
        context.progress.begin(f"{at.name}: build again")
        kind_of(at.step).fetch(at, context)
        with open_below():
            Composition(at=at, context=context).make_wheels()
        context.progress.done("as locked")
