"""What replaces a distribution of the base, and through which requirements."""

from __future__ import annotations

import pytest

from klock.lockfile.model import Interpreter, LockedPackage, WheelArtifact
from klock.packages.interpreter import InstalledDistribution, TargetPython
from klock.packages.placing import unfit_for
from klock.packages.replacing import held_by_constraints, replacements
from klock.packages.request import PipRequest, ScopedRequirement
from klock.packages.roots import read_roots
from klock.values import replace

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


HELD = {
    "torch==2.4.0a0+nv24.8": True,
    "Torch===2.4.0a0+nv24.8": True,
    "torch==2.4.0a0": False,
    "torch==2.4.*": False,
    "torch>=2.4.0a0": False,
    "torch @ file:///opt/torch.whl": False,
    "other==2.4.0a0+nv24.8": False,
}


@pytest.mark.parametrize("is_file", [True, False])
@pytest.mark.parametrize("line", HELD)
def test_a_constraint_that_names_what_the_base_has(line: str, *, is_file: bool) -> None:
    """As NVIDIA's images have it in the file of PIP_CONSTRAINT."""
    base = InstalledDistribution(name="torch", version="2.4.0a0+nv24.8", requires=(), extras=())
    scoped = ScopedRequirement(text=line, origin="-c c.txt")
    request = PipRequest(constraints=() if is_file else (scoped,), environment={"PIP_CONSTRAINT": "/c.txt"})
    files = {"/c.txt": f"{line}  # ours\n".encode()} if is_file else {}
    held = held_by_constraints([request], replace(PYTHON, installed=(base,)), files.get)
    assert held == ({"torch"} if HELD[line] else set())


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
