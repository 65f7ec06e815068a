"""`run_function`: what becomes of a Python function and of what it uses."""

from __future__ import annotations

import asyncio
import enum
import functools
import json
import multiprocessing
import os.path
import subprocess
import sys
import xml.sax.saxutils
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from klock.errors import ImageError
from klock.image.builder import Image
from klock.image.functions import program_of
from klock.image.steps import RunBash
from klock.steps.shell import described_command

MODEL = {"name": "tiny", "sizes": [1, 2], "of": ("a", None)}
HELD = object()
RING: list[object] = []
RING.append(RING)


def helper(text: str) -> str:
    return text.upper() if len(text) < 3 else helper(text[1:]).lower()


def download(to: str, *, model: dict[str, Any] = MODEL, sep: str = "-") -> None:
    """A docstring with 'quotes' and
    end of download
    """

    def inner() -> str:
        return sep.join([helper("abcd"), *(str(size) for size in model["sizes"])])

    assert xml.sax.saxutils.escape("<") == "&lt;"
    Path(to).write_text(json.dumps([inner(), os.path.basename(to), model]))  # noqa: PTH119


def uses_an_object() -> None:
    print(HELD)


def uses_nothing_that_is_there() -> None:
    print(nowhere)  # type: ignore[name-defined]  # noqa: F821


def logs(to: str) -> None:
    Path(to).write_text(__name__)
    Path("/tmp/klock-logs.py").unlink()


def uses_its_own_place() -> None:
    print(__file__)


class Colour(enum.IntEnum):
    RED = 1


def uses_a_class() -> None:
    print(Colour.RED)


@functools.cache
def is_decorated() -> None: ...


def yields() -> Iterator[int]:
    yield 1


async def waits() -> int:
    return 1


def of_another() -> Callable[[str], None]:
    def indented(to: str) -> None:
        text = """
        a
    b
"""
        Path(to).write_text(text)

    return indented


COUNT: int


def counts(to: str, *numbers: float) -> None:
    global COUNT  # noqa: PLW0603
    COUNT = asyncio.run(waits())
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        Path(to).write_text(repr([COUNT, *numbers, *pool.map(helper, ["xyz"])]))


def fails() -> None:
    raise ValueError("it broke")


def test_a_function_runs_elsewhere_with_what_it_uses(tmp_path: Path) -> None:
    made = tmp_path / "made"
    image = Image().run_function(download, [str(made)], kwargs={"sep": "+"}, python=sys.executable)
    (step,) = image.steps
    assert isinstance(step, RunBash)
    assert step.command.startswith("cat > /tmp/klock-download.py <<'end of download'\n")
    assert described_command(step.command) == "run_function download"
    subprocess.run(["bash", "-c", step.command], check=True, cwd="/", env={"PATH": os.environ["PATH"]})
    assert json.loads(made.read_text()) == ["cd+1+2", "made", {"name": "tiny", "sizes": [1, 2], "of": ["a", None]}]


def run(function: Callable[..., object], *arguments: object) -> str:
    """What it says, if it fails."""
    (step,) = Image().run_function(function, arguments, python=sys.executable).steps
    assert isinstance(step, RunBash)
    variables = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-c", step.command], cwd="/", env=variables, capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def test_text_in_a_function_that_is_indented_stays_as_it_is(tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert not run(of_another(), str(made))
    assert made.read_text() == "\n        a\n    b\n"


def test_processes_of_a_function_know_the_functions_that_it_uses(tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert not run(counts, str(made), float("inf"), -1.5)
    assert made.read_text() == "[1, inf, -1.5, 'yz']"


def test_the_name_of_its_module_is_that_of_a_program_and_tmp_may_be_emptied(tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert not run(logs, str(made))
    assert made.read_text() == "__main__"


def test_a_function_that_fails_shows_its_lines() -> None:
    said = run(fails)
    assert 'raise ValueError("it broke")\nValueError: it broke' in said
    assert "/tmp/klock-fails.py" in said
    Path("/tmp/klock-fails.py").unlink()


ARGUMENTS: dict[str, tuple[Any, Any, str]] = {
    "a string": ("abc", {}, r"args is 'abc' \(expected a list\)"),
    "a number": (5, {}, r"args is 5 \(expected a list\)"),
    "a list of names": ((), ["a"], r"kwargs is \['a'\] \(expected a dictionary of names\)"),
    "another name": ((), {"x": 1}, "missing a required argument: 'text'"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_that_are_none(case: str) -> None:
    args, kwargs, said = ARGUMENTS[case]
    with pytest.raises(ImageError, match=said):
        Image().run_function(helper, args, kwargs)


def test_the_same_function_is_the_same_step_and_another_argument_is_not() -> None:
    def step(*args: object) -> object:
        return Image().run_function(download, args).steps[0]

    assert step("/a") == step("/a")
    assert step("/a") != step("/b")


def around() -> Callable[[], None]:
    secret = "x"

    def closure() -> None:
        print(secret)

    return closure


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (print, (), "print is not a function of a file"),
        (lambda: None, (), "is not a function of a file"),
        (around(), (), "closure uses secret of the function around it"),
        (uses_an_object, (), "HELD is of the type object"),
        (uses_nothing_that_is_there, (), "uses nowhere, which is not defined"),
        (uses_its_own_place, (), "uses_its_own_place uses __file__, which it has on this machine alone"),
        (uses_a_class, (), "Colour is a class"),
        (is_decorated, (), "is_decorated is decorated"),
        (yields, (), "yields is a generator: a call of it does nothing"),
        (waits, (), "waits is asynchronous: a call of it does nothing"),
        (helper, (Path("/x"),), "argument 1 is of the type"),
        (helper, (Colour.RED,), "argument 1 is of the type Colour"),
        (helper, (RING,), "argument 1 holds itself, or is too large"),
        (helper, (10**5000,), "argument 1 holds itself, or is too large"),
        (helper, (), "missing a required argument: 'text'"),
        (helper, ("a", "b"), "too many positional arguments"),
    ],
)
def test_what_no_text_can_stand_for_is_refused_by_name(
    function: Callable[..., object], arguments: tuple[object, ...], said: str
) -> None:
    with pytest.raises(ImageError, match=said):
        program_of(function, arguments, {})
