"""What `klock lock` says of versions that moved."""

from __future__ import annotations

import dataclasses

from klock.lockfile.model import AptLock, DebPackage, LayerLock, LockedPackage, OciLock, PipLock, StepLock, TargetLock
from klock.locking.moved import moved
from tests.test_lockfile import NUMPY, SMALL, A, C

JQ = DebPackage(name="jq", version="1.6", architecture="amd64", path="pool/j.deb", size=1, sha256="a" * 64)


def installing(target: TargetLock, *packages: LockedPackage) -> tuple[StepLock, ...]:
    """Its steps, with other packages in its pip step."""
    pins = tuple(package.pin for package in packages)
    return tuple(dataclasses.replace(s, packages=pins) if isinstance(s, PipLock) else s for s in target.steps)


def test_it_is_told_by_name_and_version() -> None:
    (target,) = SMALL.targets
    assert isinstance(target.base, OciLock)
    newer = dataclasses.replace(NUMPY, version="2.5.0")
    added = dataclasses.replace(NUMPY, name="pandas", version="3.0")
    apt = AptLock(packages=("jq",), debs=(JQ,), layer=LayerLock(digest=A, files=1, size=1))
    after = dataclasses.replace(
        target,
        base=dataclasses.replace(target.base, index_digest=C),
        packages=(newer, added),
        steps=(*installing(target, newer, added), apt),
    )
    lock = dataclasses.replace(SMALL, targets=(after,))
    lines = [
        "add jq (Debian) 1.6",
        "add pandas 3.0",
        "update numpy 2.4.6 -> 2.5.0",
        "update python:3.12-slim sha256:aaaaaaaaaaaa -> sha256:cccccccccccc",
    ]
    assert sorted(moved(SMALL, lock)) == lines
    assert sorted(moved(lock, SMALL)) == [
        "remove jq (Debian) 1.6",
        "remove pandas 3.0",
        "update numpy 2.5.0 -> 2.4.6",
        "update python:3.12-slim sha256:cccccccccccc -> sha256:aaaaaaaaaaaa",
    ]
    assert list(moved(SMALL, SMALL)) == []


def test_what_two_targets_share_is_told_once() -> None:
    (target,) = SMALL.targets
    other = dataclasses.replace(target, target=dataclasses.replace(target.target, accelerator="cuda12.4"))
    before = dataclasses.replace(SMALL, targets=(target, other))
    newer = dataclasses.replace(NUMPY, version="2.5.0")
    targets = tuple(dataclasses.replace(t, packages=(newer,), steps=installing(t, newer)) for t in before.targets)
    assert list(moved(before, dataclasses.replace(SMALL, targets=targets))) == ["update numpy 2.4.6 -> 2.5.0"]
