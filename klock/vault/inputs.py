"""What a lockfile needs from outside of the project, as data: every blob with its digest, its size and a name.

The project's own files (a step's copied files, local Python projects) are no inputs: they are where the lockfile is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from klock.digests import Digest
from klock.lockfile.model import (
    AptLock,
    BaseLock,
    DebianLock,
    DebPackage,
    LockedPackage,
    OciLock,
    SdistArtifact,
    ShellLock,
    TargetLock,
    WheelArtifact,
)
from klock.recorder.permanent_urls import is_permanent

__all__ = ["Input", "inputs_of", "inputs_of_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Bytes that replay needs. `size` in bytes; `name` is for messages. `permanent`: upstream will have them later too.

    What is not permanent was made here once, or is served only until upstream moves on.
    """

    digest: Digest
    size: int
    name: str
    permanent: bool = True


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
    """The inputs of one target."""
    yield from _of_base(target.base)
    for package in target.packages:
        yield from _of_package(package)
    for step in target.steps:
        if isinstance(step, AptLock):
            yield from map(_of_deb, step.debs)
        elif isinstance(step, ShellLock):
            yield from _of_shell_step(step)


def _of_base(base: BaseLock) -> Iterator[Input]:
    match base:
        case OciLock():
            yield Input(digest=base.manifest.digest, size=base.manifest.size, name=f"{base.reference} (manifest)")
            yield Input(digest=base.config.digest, size=base.config.size, name=f"{base.reference} (config)")
            for layer in base.layers:
                yield Input(digest=layer.digest, size=layer.size, name=f"{base.reference} (layer)")
        case DebianLock():
            yield from map(_of_deb, base.debs)


def _of_deb(deb: DebPackage) -> Input:
    """The archive drops a version when a newer one takes its place."""
    return Input(digest=f"sha256:{deb.sha256}", size=deb.size, name=f"{deb.name} {deb.version}", permanent=False)


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


def _of_shell_step(step: ShellLock) -> Iterator[Input]:
    """A step whose layer is kept never runs: it needs none of the answers it got."""
    if step.kept is not None:
        name = f"the kept layer of {step.command.strip().partition(chr(10))[0][:60]!r}"
        yield Input(digest=f"sha256:{step.kept.sha256}", size=step.kept.size, name=name, permanent=False)
        return
    for request in step.requests:
        if request.sha256 is not None:
            yield Input(
                digest=f"sha256:{request.sha256}",
                size=request.size,
                name=f"{request.method} {request.url}",
                permanent=is_permanent(request),
            )
