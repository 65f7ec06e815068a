"""Case 10: `install_cmd` selects options; the bytes installed are the locked ones either way."""

from __future__ import annotations

import pytest

from klock.errors import ImageError
from klock.image.builder import Image
from klock.image.install_command import with_install_options
from klock.image.requirement_lines import parse_line
from klock.image.steps import PipInstall

CASES = {
    "no options": ("uv pip install", "numpy"),
    "a flag": ("uv pip install --system --pre", "--system --pre numpy"),
    "a value with a space": ("pip install --find-links '/a b'", "--find-links '/a b' numpy"),
    "another program": ("python3 -m pip install --index-url https://h/simple", "--index-url https://h/simple numpy"),
}


@pytest.mark.parametrize("case", CASES)
def test_case_10_options_stand_before_every_requirement(case: str) -> None:
    command, line = CASES[case]
    image = Image(install_cmd=command, image_id="x").pip_install(["numpy"]).run_bash("true")
    pip, shell = with_install_options(image.steps, image.install_cmd)
    assert isinstance(pip, PipInstall)
    assert pip.requirements == (line,)
    assert shell == image.steps[1]
    (requirement,) = parse_line(line, "here").requirements
    assert str(requirement) == "numpy"


@pytest.mark.parametrize("command", ["uv pip", "uv pip 'install"])
def test_case_10_something_else_is_an_error(command: str) -> None:
    with pytest.raises(ImageError, match="install_cmd"):
        with_install_options((), command)


def test_case_10_an_option_klock_cannot_honour_is_an_error_and_not_dropped() -> None:
    image = Image(install_cmd="uv pip install --no-deps", image_id="x").pip_install("numpy")
    (pip,) = with_install_options(image.steps, image.install_cmd)
    assert isinstance(pip, PipInstall)
    with pytest.raises(ImageError, match="--no-deps"):
        parse_line(pip.requirements[0], "here")
