"""What replaces a distribution of the base, and through which requirements."""

from __future__ import annotations

import pytest

from klock.lockfile.model import Interpreter, LockedPackage, WheelArtifact
from klock.packages.interpreter import TargetPython
from klock.packages.placing import unfit_for
from klock.packages.replacing import replacements
from klock.packages.request import PipRequest, ScopedRequirement
from klock.packages.roots import read_roots

WHEEL = WheelArtifact(name="torch-2.5-py3-none-any.whl", url="", size=1, sha256="0" * 64)
TORCH = LockedPackage(name="torch", version="2.5", index=None, artifact=WHEEL, replaces="2.4.0a0+nv24.8")
PYTHON = TargetPython(
    interpreter=Interpreter(path="/python", version="3.11.2", implementation="cpython", libc="glibc 2.36", sha256=""),
    markers={"python_full_version": "3.11.2", "python_version": "3.11", "sys_platform": "linux"},
    tags=(),
    installed=(),
)


@pytest.mark.parametrize(
    ("lines", "requires", "because"),
    [
        (["torch>=2.5"], {}, ": line 1: torch>=2.5"),
        (["x", "a"], {"a": ["b>=2"], "b": ["torch>=2.4"]}, ": line 2: a requires b>=2 requires torch>=2.4"),
        # The requirement that the base's version does not meet is the cause, not the first one.
        (["torch", "a"], {"a": ["torch>=2.5 ; sys_platform == 'linux'"]}, ": line 2: a requires torch>=2.5"),
        (["a[x]"], {"a": ["b ; extra == 'x'", "torch ; extra == 'y'"], "b": ["torch"]}, ": line 1: a[x] requires b "),
        (["a"], {"a": ["torch>9 ; python_version < '3'", "b"], "b": ["a", "torch"]}, ": line 1: a requires b requires"),
    ],
)
def test_the_chain_that_replaces_a_distribution_of_the_base(
    lines: list[str], requires: dict[str, list[str]], because: str
) -> None:
    scoped = tuple(ScopedRequirement(text=text, origin=f"line {n}") for n, text in enumerate(lines, 1))
    (sentence,) = replacements([TORCH], read_roots([PipRequest(requirements=scoped)]), requires, PYTHON)
    assert sentence.startswith(f"torch 2.4.0a0+nv24.8 of the base is replaced by 2.5{because}")


@pytest.mark.parametrize(
    ("said", "is_told"),
    [
        ("", False),
        (">=3.8", False),
        ("<3.12", False),
        ("<3.9", True),
        (">=3.8,!=3.11.*", True),
        ("~=3.11.4", True),
        (">=3.6.*", False),  # nobody can say what it means
    ],
)
def test_what_is_for_other_pythons_is_named(said: str, is_told: bool) -> None:
    sentence = f"torch==2.5 says that it is for Python {said}, and the environment has 3.11.2"
    assert list(unfit_for(PYTHON, [TORCH], {"torch": said})) == ([sentence] if is_told else [])
