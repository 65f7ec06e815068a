"""What a lockfile needs from outside of the project, as data: every blob with its digest, its size and a name.

The project's own files (a step's copied files, local Python projects) are not inputs: they are where the lockfile is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from klock.digests import Digest
from klock.lockfile.model import (
    BaseLock,
    DebianLock,
    LockedPackage,
    OciLock,
    SdistArtifact,
    StepLock,
    TargetLock,
    WheelArtifact,
    kept_layer_of,
)
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.kind import Input

__all__ = ["Input", "inputs_of", "inputs_of_all", "inputs_of_base", "inputs_of_step"]


def inputs_of_all(targets: Iterable[TargetLock]) -> tuple[Input, ...]:
    """The inputs of several targets, each digest once, in the lockfile's order."""
    found: dict[Digest, Input] = {}
    for target in targets:
        for item in inputs_of(target):
            known = found.get(item.digest)
            if known is None or (known.permanent and not item.permanent):
                found[item.digest] = item
    return tuple(found.values())


def inputs_of(target: TargetLock) -> Iterator[Input]:
    """The inputs of one target, and of the stages that it takes files from."""
    for stage in target.locks_of_stages.values():
        yield from _of_one(stage)
    yield from _of_one(target)


def inputs_of_step(at: StepAt[Any]) -> Iterator[Input]:
    """The inputs of one step, and what was built of them for it."""
    kind = kind_of(at.step)
    yield from kind.inputs(at)
    if kept_layer_of(at.step) is None:
        yield from kind.built(at)


def _of_one(target: TargetLock) -> Iterator[Input]:
    yield from inputs_of_base(target.base)
    for package in target.packages:
        yield from _of_package(package)
    for position, step in enumerate(target.steps):
        at: StepAt[StepLock] = StepAt(lock=target, position=position)
        yield from kind_of(step).inputs(at)


def inputs_of_base(base: BaseLock) -> Iterator[Input]:
    """The archives or packages of a base, and what says which they are."""
    match base:
        case OciLock():
            yield Input(digest=base.manifest.digest, size=base.manifest.size, name=f"{base.reference} (manifest)")
            yield Input(digest=base.config.digest, size=base.config.size, name=f"{base.reference} (config)")
            for layer in base.layers:
                yield Input(digest=layer.digest, size=layer.size, name=f"{base.reference} (layer)")
        case DebianLock():
            # The archive drops a version when a newer one takes its place.
            for deb in base.debs:
                name = f"{deb.name} {deb.version}"
                yield Input(digest=f"sha256:{deb.sha256}", size=deb.size, name=name, permanent=False)


def _of_package(package: LockedPackage) -> Iterator[Input]:
    """The wheel that gets installed, and what it was built from. An earlier step makes a file of the environment."""
    artifact = package.artifact
    if isinstance(artifact, WheelArtifact):
        if not artifact.url.startswith("file:"):
            yield Input(digest=f"sha256:{artifact.sha256}", size=artifact.size, name=artifact.name)
        return
    wheel = artifact.wheel
    yield Input(digest=f"sha256:{wheel.sha256}", size=wheel.size, name=f"{wheel.name} (built)", permanent=False)
    # A commit has no bytes of its own, only the wheel it made.
    if isinstance(artifact, SdistArtifact) and not artifact.url.startswith("file:"):
        yield Input(digest=f"sha256:{artifact.sha256}", size=artifact.size, name=artifact.name)
