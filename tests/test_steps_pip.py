"""What a pip step needs besides the step itself."""

from __future__ import annotations

import pytest

from klock.lockfile.model import (
    DebianLock,
    LayerLock,
    LocalProject,
    LockedPackage,
    PipLock,
    TargetLock,
    WheelArtifact,
)
from klock.steps.at import StepAt
from klock.steps.pip import KIND
from klock.targets import Target


def package(name: str) -> LockedPackage:
    wheel = WheelArtifact(name=f"{name}.whl", url=f"https://h/{name}.whl", size=1, sha256="0" * 64)
    return LockedPackage(name=name, version="1", index=None, artifact=wheel)


def test_a_step_needs_its_packages_and_what_builds_its_projects() -> None:
    step = PipLock(
        requirements=("a", "/lib"),
        packages=("a==1",),
        layer=LayerLock(digest="sha256:" + "0" * 64, files=0, size=0),
        projects=(LocalProject(path="/lib", name="lib", build=("c==1", "a==1")),),
    )
    lock = TargetLock(
        target=Target.parse("linux/amd64/cpu"),
        base=DebianLock(suite="bookworm", packages=(), debs=(), tree="sha256:" + "1" * 64),
        interpreter=None,
        steps=(step,),
        packages=tuple(map(package, ("a", "b", "c"))),
    )
    at: StepAt[PipLock] = StepAt(lock=lock, position=0)
    assert [item.name for item in KIND.inputs(at)] == ["a.whl", "c.whl"]


@pytest.mark.parametrize(("number", "is_made_of_notes"), [(2, True), (3, False)])
def test_trees_that_are_too_many_to_mount_are_looked_at(
    number: int, is_made_of_notes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their files are joined, and a lock would otherwise take those that somebody changed in the store."""
    monkeypatch.setattr("klock.workshop.joining.MOST", 2)
    names = ("a", "b", "c")[:number]
    step = PipLock(
        requirements=names,
        packages=tuple(f"{name}==1" for name in names),
        layer=LayerLock(digest="sha256:" + "0" * 64, files=0, size=0),
    )
    lock = TargetLock(
        target=Target.parse("linux/amd64/cpu"),
        base=DebianLock(suite="bookworm", packages=(), debs=(), tree="sha256:" + "1" * 64),
        interpreter=None,
        steps=(step,),
        packages=tuple(map(package, names)),
    )
    at: StepAt[PipLock] = StepAt(lock=lock, position=0)
    assert KIND.is_made_of_notes(at) is is_made_of_notes
