"""`run_function`: what becomes of a Python function and of what it uses."""

from __future__ import annotations

import functools
import json
import os.path
import subprocess
import sys
import xml.sax.saxutils
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from klock.errors import ImageError
from klock.image.builder import Image
from klock.image.functions import program_of
from klock.image.steps import RunBash

MODEL = {"name": "tiny", "sizes": [1, 2], "of": ("a", None)}
HELD = object()


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


@functools.cache
def is_decorated() -> None: ...


def test_a_function_runs_elsewhere_with_what_it_uses(tmp_path: Path) -> None:
    made = tmp_path / "made"
    image = Image().run_function(download, [str(made)], kwargs={"sep": "+"}, python=sys.executable)
    (step,) = image.steps
    assert isinstance(step, RunBash)
    assert step.command.startswith(f"{sys.executable} - <<'end of download'\n") or "end of download." in step.command
    subprocess.run(["bash", "-c", step.command], check=True, cwd="/", env={"PATH": os.environ["PATH"]})
    assert json.loads(made.read_text()) == ["cd+1+2", "made", {"name": "tiny", "sizes": [1, 2], "of": ["a", None]}]


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
        (is_decorated, (), "is not a function of a file"),
        (helper, (Path("/x"),), "argument 1 is of the type"),
    ],
)
def test_what_no_text_can_stand_for_is_refused_by_name(
    function: Callable[..., object], arguments: tuple[object, ...], said: str
) -> None:
    with pytest.raises(ImageError, match=said):
        program_of(function, arguments, {})
