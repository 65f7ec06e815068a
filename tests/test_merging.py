"""Lockfiles of two branches: what is independent is taken from both, and what is not is said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from klock.errors import LockfileError
from klock.lockfile import read, write
from klock.lockfile.model import (
    DebianLock,
    EnvLock,
    ImageLock,
    LayerLock,
    LockedPackage,
    LockedVariable,
    Lockfile,
    PipLock,
    ServiceLock,
    ShellLock,
    TargetLock,
    WheelArtifact,
    with_layer,
)
from klock.locking.merging import merge
from klock.merging import DRIVER
from klock.packages import Question
from klock.targets import Target

Change = Callable[[Lockfile], Lockfile]


def layer(number: int) -> LayerLock:
    return LayerLock(digest=f"sha256:{number:064}", files=1, size=1)


def package(name: str, version: str) -> LockedPackage:
    wheel = WheelArtifact(name=f"{name}-{version}-py3-none-any.whl", url="https://i/x", size=1, sha256=version[0] * 64)
    return LockedPackage(name=name, version=version, index="https://i/simple", artifact=wheel)


def target(name: str) -> TargetLock:
    return TargetLock(
        target=Target.parse(name),
        base=DebianLock(suite="bookworm", packages=(), debs=(), tree="sha256:" + "1" * 64),
        interpreter=None,
        steps=(
            EnvLock(variables=(LockedVariable(name="P", written="1", value="1"),)),
            ShellLock(command="make", layer=layer(1)),
            PipLock(requirements=("a", "b"), packages=("a==1", "b==1"), layer=layer(2)),
            EnvLock(variables=(LockedVariable(name="Q", written="1", value="1"),)),
            ServiceLock(command="serve &"),
        ),
        packages=(package("a", "1"), package("b", "1")),
    )


BEFORE = Lockfile(image=ImageLock(name="x"), normalisation=1, targets=(target("linux/amd64"), target("linux/arm64")))


def changed(position: int, number: int = 0) -> Change:
    """The step at a position of the first target is another one."""

    def change(lock: Lockfile) -> Lockfile:
        first, *rest = lock.targets
        steps = list(first.steps)
        step = steps[position]
        if isinstance(step, EnvLock):
            value = f"new {number}"
            steps[position] = EnvLock(variables=(replace(step.variables[0], written=value, value=value),))
        elif isinstance(step, ServiceLock):
            steps[position] = ServiceLock(command="serve more &")
        else:
            steps[position] = with_layer(step, layer(10 + number))
        return replace(lock, targets=(replace(first, steps=tuple(steps)), *rest))

    return change


def upgraded(name: str, version: str = "2", *, of: int = 0) -> Change:
    def change(lock: Lockfile) -> Lockfile:
        targets = list(lock.targets)
        old = targets[of]
        packages = tuple(package(name, version) if each.name == name else each for each in old.packages)
        steps = list(old.steps)
        step = steps[2]
        assert isinstance(step, PipLock)
        steps[2] = replace(step, packages=tuple(each.pin for each in packages), layer=layer(hash(name) % 1000 + 50))
        targets[of] = replace(old, steps=tuple(steps), packages=packages)
        return replace(lock, targets=tuple(targets))

    return change


def newer(lock: Lockfile) -> Lockfile:
    return replace(lock, image=replace(lock.image, exclude_newer="2026-01-01T00:00:00Z"))


INDEPENDENT: dict[str, tuple[Change, Change]] = {
    "two targets": (upgraded("a"), upgraded("b", of=1)),
    "a layer, and variables above it": (changed(2, 1), changed(3)),
    "variables and a service": (changed(3), changed(4)),
    "what is said of the image, and a step": (newer, changed(1, 1)),
    "the same on both sides": (upgraded("a"), upgraded("a")),
    "nothing on one side": (lambda lock: lock, upgraded("a")),
}


@pytest.mark.parametrize(("ours", "theirs"), INDEPENDENT.values(), ids=INDEPENDENT)
def test_what_is_independent_is_taken_from_both(ours: Change, theirs: Change) -> None:
    both = ours(theirs(BEFORE))
    for one, other in ((ours, theirs), (theirs, ours)):
        merged = merge(BEFORE, one(BEFORE), other(BEFORE))
        assert merged.dependent == ()
        assert merged.lockfile == both


DEPENDENT: dict[str, tuple[Change, Change, tuple[str, ...], tuple[str, ...]]] = {
    "two packages": (upgraded("a"), upgraded("b"), ("step 3 (pip_install a, b) of linux/amd64/cpu",), ("b",)),
    "a layer over a changed one": (
        changed(1, 1),
        changed(2, 2),
        ("step 3 (pip_install a, b), and what is below it of linux/amd64/cpu",),
        (),
    ),
    "a layer over changed variables": (
        changed(1, 1),
        changed(0),
        ("step 2 (run_bash make), and what is below it of linux/amd64/cpu",),
        (),
    ),
    "one variable in two ways": (changed(3, 1), changed(3, 2), ("step 4 (set_env_vars Q) of linux/amd64/cpu",), ()),
    "other steps": (
        upgraded("a"),
        lambda lock: replace(
            lock, targets=(replace(lock.targets[0], steps=lock.targets[0].steps[1:]), lock.targets[1])
        ),
        ("the steps of linux/amd64/cpu",),
        (),
    ),
    "a target that went and changed": (
        lambda lock: replace(lock, targets=lock.targets[:1]),
        upgraded("a", of=1),
        ("the target linux/arm64/cpu",),
        (),
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "dependent", "moved"), DEPENDENT.values(), ids=DEPENDENT)
def test_what_depends_on_each_other_is_said_and_is_ours(
    ours: Change, theirs: Change, dependent: tuple[str, ...], moved: tuple[str, ...]
) -> None:
    merged = merge(BEFORE, ours(BEFORE), theirs(BEFORE))
    words = tuple(each.removesuffix(" of linux/amd64/cpu") for each in merged.dependent)
    assert words == tuple(each.removesuffix(" of linux/amd64/cpu") for each in dependent)
    assert merged.lockfile == ours(BEFORE)
    assert merged.theirs == moved


def test_the_packages_of_both_are_what_is_locked_again_with() -> None:
    merged = merge(BEFORE, upgraded("a")(BEFORE), upgraded("b", "3")(BEFORE))
    target = merged.preferred.targets[0]
    assert [each.pin for each in target.packages] == ["a==2", "b==1", "b==3"]
    assert Question(requests=(), previous=target.packages).preferred_versions == {"a": "2", "b": "3"}
    assert {pin for step in target.steps for pin in getattr(step, "packages", ())} <= target.packages_by_pin.keys()


def test_what_the_other_side_added_is_not_to_be_upgraded() -> None:
    """`klock lock --upgrade-package c` would say that it is not locked."""

    def adding(lock: Lockfile) -> Lockfile:
        first, *rest = upgraded("b")(lock).targets
        steps = list(first.steps)
        steps[2] = PipLock(requirements=("a", "b", "c"), packages=("a==1", "b==2", "c==1"), layer=layer(4))
        first = replace(first, steps=tuple(steps), packages=(*first.packages, package("c", "1")))
        return replace(lock, targets=(first, *rest))

    merged = merge(BEFORE, upgraded("a")(BEFORE), adding(BEFORE))
    assert merged.theirs == ("b",)
    assert [each.pin for each in merged.preferred.targets[0].packages] == ["a==2", "b==1", "b==2", "c==1"]


def test_two_lockfiles_without_an_ancestor_depend_on_each_other() -> None:
    assert merge(None, BEFORE, upgraded("a")(BEFORE)).dependent == ("the whole lockfile",)


def git(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    who = ("-c", "user.name=A", "-c", "user.email=a@b.test", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *who, *words], cwd=folder, check=check, capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The lockfile is in a folder; git knows the driver by this klock."""
    folder = tmp_path / "repository"
    (folder / "sub").mkdir(parents=True)
    git(folder, "init")
    installed = subprocess.run(
        [sys.executable, "-m", "klock", "merge-driver", "--install"],
        cwd=folder / "sub",
        check=True,
        capture_output=True,
    )
    assert b"'kimage*.lock merge=klock' is in .gitattributes" in installed.stderr
    driver = git(folder, "config", "merge.klock.driver").stdout.strip()
    assert driver in (DRIVER, f"{os.path.normpath(sys.executable)} -m {DRIVER}")
    git(folder, "config", "merge.klock.driver", f"{sys.executable} -m {DRIVER}")
    write(BEFORE, folder / "sub/kimage.lock")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "before")
    return folder


def test_a_clone_alone_uses_the_driver(tmp_path: Path) -> None:
    """Where klock is on no PATH, git knows it by its Python."""
    folder = tmp_path / "repo sitory"
    (folder / "sub").mkdir(parents=True)
    git(folder, "init")
    command = [sys.executable, "-m", "klock", "merge-driver", "--install", "--local"]
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder / "sub", check=True, capture_output=True, text=True, env=environment)
    assert done.stderr == (
        "git uses klock to merge lockfiles in this clone: 'kimage*.lock merge=klock' is in "
        f"{folder}/.git/info/attributes\n"
    )
    write(BEFORE, folder / "sub/kimage.lock")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "before")
    assert not (folder / ".gitattributes").exists()
    ours, theirs = INDEPENDENT["two targets"]
    done = merged_in(folder, ours, theirs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(folder / "sub/kimage.lock") == ours(theirs(BEFORE))


def merged_in(folder: Path, ours: Change, theirs: Change) -> subprocess.CompletedProcess[str]:
    file = folder / "sub/kimage.lock"
    git(folder, "checkout", "-b", "theirs")
    write(theirs(BEFORE), file)
    git(folder, "commit", "-am", "theirs")
    git(folder, "checkout", "main")
    write(ours(BEFORE), file)
    git(folder, "commit", "-am", "ours")
    return git(folder, "merge", "theirs", check=False)


def test_git_merges_what_is_independent(repository: Path) -> None:
    ours, theirs = INDEPENDENT["two targets"]
    done = merged_in(repository, ours, theirs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(repository / "sub/kimage.lock") == ours(theirs(BEFORE))


def test_git_has_a_conflict_of_the_rest_and_klock_names_the_commands(repository: Path) -> None:
    done = merged_in(repository, upgraded("a"), upgraded("b"))
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert (
        "sub/kimage.lock: both sides changed step 3 (pip_install a, b) of linux/amd64/cpu; it has our side now" in said
    )
    assert "run `klock lock --upgrade-package b`, then `git add sub/kimage.lock`" in said
    assert read(repository / "sub/kimage.lock") == upgraded("a")(BEFORE)
    assert git(repository, "status", "--short").stdout == "UU sub/kimage.lock\n"


def test_a_lockfile_with_conflict_markers_leads_to_the_commands(tmp_path: Path) -> None:
    file = tmp_path / "kimage.lock"
    write(BEFORE, file)
    text = file.read_text()
    file.write_text(text + "<<<<<<< ours\nx = 1\n=======\nx = 2\n>>>>>>> theirs\n")
    with pytest.raises(LockfileError, match=r"kimage\.lock has merge conflicts in it") as error:
        read(file)
    assert error.value.hint == (
        "merge kimage.py, then: git checkout --ours kimage.lock && klock lock && git add kimage.lock; "
        "`klock merge-driver --install` has git ask klock the next time"
    )
