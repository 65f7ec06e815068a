"""What source distributions require, as their builds have told it: so uv on this machine need not ask for a build.

An index tells nothing of what an sdist requires, and often the sdist itself does not either. Then uv has to build it to
resolve, which it may do in the environment alone, with an empty cache. Once klock has built its wheel, that is known:
it is noted for the sdist's hash and for all that its build sees, and uv is told (`dependency-metadata`) for the sdists
of the last lock. Only an answer counts that has each of these, under the hash that was built; and when they are locked,
they have to require the same as before (`klock.packages.resolution`).

A note names the wheel, and what it says is read from the wheel's bytes, which have the hash that is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from klock.digests import Digest, digest_of_json
from klock.errors import FetchError
from klock.lockfile.model import LockedPackage, SdistArtifact, WheelArtifact
from klock.packages.question import World
from klock.packages.selection import SelectedFile, SelectedPackage
from klock.packages.wheels import WheelMetadata, read_wheel_metadata
from klock.values import dataclass

__all__ = ["Learnt", "is_learnt", "learn", "learnt_of"]

_KIND: Final = "sdist-metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """The metadata of an sdist with this SHA-256, from the wheel that it made."""

    sdist: str
    wheel: str
    metadata: WheelMetadata

    def is_of(self, package: SelectedPackage | None) -> bool:
        """Whether uv chose just that sdist."""
        source = package.source if package is not None else None
        return (
            package is not None
            and isinstance(source, SelectedFile)
            and not package.direct
            and (package.version, source.sha256) == (self.metadata.version, self.sdist)
        )


def learn(sdist: str, wheel: WheelArtifact, world: World, variables: Mapping[str, str]) -> None:
    """Notes that an sdist makes a wheel, which is in the store, where builds see this world and these variables."""
    world.store.write_record(_KIND, _key(sdist, world, variables), {"wheel": dataclasses.asdict(wheel)})


def is_learnt(sdist: str, wheel: WheelArtifact, world: World, variables: Mapping[str, str]) -> bool:
    """Whether just that is noted."""
    return _noted(sdist, world, variables) == wheel


def learnt_of(packages: Iterable[LockedPackage], world: World, variables: Mapping[str, str]) -> Iterator[Learnt]:
    """What is known of those of `packages` that are sdists of an index. What cannot be read is not known."""
    for package in packages:
        artifact = package.artifact
        if not isinstance(artifact, SdistArtifact) or package.index is None:
            continue
        wheel = _noted(artifact.sha256, world, variables)
        path = world.store.find_blob(f"sha256:{wheel.sha256}") if wheel is not None else None
        if wheel is None or path is None:
            continue
        metadata = _metadata(path, wheel.name)
        if metadata is not None and (metadata.name, metadata.version) == (package.name, package.version):
            yield Learnt(sdist=artifact.sha256, wheel=wheel.sha256, metadata=metadata)


def _key(sdist: str, world: World, variables: Mapping[str, str]) -> Digest:
    """All that a build in isolation sees. What it is built with takes no part: the answer is compared when it is."""
    interpreter = world.python.interpreter
    python = [interpreter.path, interpreter.sha256, interpreter.libc, world.python.markers["platform_machine"]]
    return digest_of_json([1, sdist, python, list(world.environment), sorted(variables.items())])


def _noted(sdist: str, world: World, variables: Mapping[str, str]) -> WheelArtifact | None:
    noted = world.store.read_record(_KIND, _key(sdist, world, variables)) if world.environment else None
    match noted:
        case {"wheel": {"name": str(name), "sha256": str(sha256), "size": int(size), "url": str(url)}}:
            return WheelArtifact(name=name, url=url, size=size, sha256=sha256)
    return None


def _metadata(wheel: Path, name: str) -> WheelMetadata | None:
    try:
        return read_wheel_metadata(wheel, name)
    except FetchError:
        return None
