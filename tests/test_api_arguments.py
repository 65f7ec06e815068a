"""What the verbs are asked for in Python is read as it was meant, or refused at once: nothing is left out silently."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import klock
from klock.errors import KlockError, LockfileError
from klock.lockfile import read
from klock.session import Options

IMAGE = klock.Image().from_docker("debian:12")
GOLDEN = Path(__file__).parents[1] / "kimage.lock"


@pytest.mark.parametrize("verb", ["lock", "plan", "sync", "check", "run"])
def test_a_function_takes_what_the_method_takes(verb: str) -> None:
    function = inspect.signature(getattr(klock, verb)).parameters
    method = inspect.signature(getattr(klock.Project, verb)).parameters
    # For a program that only ends afterwards, which has a Project.
    asked = {name: each.default for name, each in method.items() if name not in ("self", "takes_over")}
    assert {name: each.default for name, each in function.items() if name not in ("image", "options")} == asked
    assert not asked.keys() & Options.__optional_keys__


@pytest.mark.parametrize("verb", ["lock", "plan", "sync", "check", "status", "tree", "diff"])
def test_an_option_that_there_is_not_is_refused(verb: str) -> None:
    with pytest.raises(TypeError, match="there is no option 'ofline'; the options are build_args, context"):
        getattr(klock, verb)(ofline=True)


def test_an_option_that_is_none_counts_as_not_given(tmp_path: Path) -> None:
    nothing: dict[str, Any] = dict.fromkeys(Options.__optional_keys__)
    session = klock.Project(IMAGE, **{**nothing, "lockfile": tmp_path / "my.lock"}).session
    plain = klock.Project(IMAGE, lockfile=tmp_path / "my.lock").session
    assert (session.lockfile, session.store.root) == (tmp_path / "my.lock", plain.store.root)
    assert (session.environ, session.offline, session.engine) == (plain.environ, False, None)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "a command line": (
        lambda: klock.run("ls -l", IMAGE),
        "run: command is a string (expected a list of words): 'ls -l'",
    ),
    "a number in a command": (
        lambda: klock.run(["head", "-n", 3], IMAGE),  # type: ignore[list-item]
        "run: word 3 of command is an int (expected a string): 3",
    ),
    "a NUL byte": (lambda: klock.run(["a\0b"], IMAGE), "run: word 1 of command contains a NUL byte: 'a\\x00b'"),
    "a variable's name": (
        lambda: klock.run(["env"], IMAGE, variables={"A=B": "1"}),
        "run: the name of a variable has no '=', NUL byte or white space: 'A=B'",
    ),
    "no names": (
        lambda: klock.run(["env"], IMAGE, variables=["A"]),  # type: ignore[arg-type]
        "run: variables is a list (expected a dict of names and values): ['A']",
    ),
    "a number for an image": (
        lambda: klock.sync(5),  # type: ignore[arg-type]
        "the image is 5 (expected an Image, or the file that defines one)",
    ),
    "a function for an image": (
        lambda: klock.sync(len),  # type: ignore[arg-type]
        "the image is <built-in function len> (expected an Image, or the file that defines one)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_meant_is_named(case: str) -> None:
    call, message = REFUSED[case]
    with pytest.raises(KlockError) as caught:
        call()
    assert caught.value.message == message


def test_one_text_stands_for_a_list_of_one(tmp_path: Path) -> None:
    with pytest.raises(LockfileError, match=r"there is no kimage\.lock"):
        klock.run(["true"], IMAGE, mounts="/tmp:/x", devices="a/b=c", lockfile=tmp_path / "kimage.lock")


def test_a_lockfile_is_shown_in_a_line() -> None:
    lockfile = read(GOLDEN)
    assert lockfile is not None
    shown = ", ".join(f"{each.target} {each.fingerprint}" for each in lockfile.targets)
    assert repr(klock.Locked(lockfile=lockfile, path=GOLDEN, previous=None, written=True)) == (
        f"Locked(lockfile=<Lockfile of {shown}>, path={GOLDEN!r}, previous=None, written=True, notes=())"
    )
