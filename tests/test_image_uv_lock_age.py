"""A uv.lock that is older than its pyproject.toml is told: `uv sync` would not install what it has."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from klock.image.requirement_files import read_requirements
from klock.image.steps import PipInstall
from klock.image.uv_lock_age import not_in_lock
from klock.uv_program import uv_program
from tests.integration.index_server import make_wheel

PROJECT = """\
[project]
name = "My.App"
version = "1"
requires-python = ">=3.9"
dependencies = ["a>=1,<3", "b", "c[x]; python_version >= '3.9'"]
[project.optional-dependencies]
fast = ["d~=1.0"]
all = ["my_app[fast]"]
[dependency-groups]
dev = ["e"]
[tool.uv.sources]
b = {path = "b"}
"""
CHANGES = {
    "nothing": ("", "", None),
    "another order, and spaces": ("a>=1,<3", "A <3, >=1.0", None),
    "one more": ('"b",', '"b", "f>=1",', "f>=1"),
    "one less": ('"b", ', "", "no b"),
    "another range": ("a>=1,<3", "a>=1", "a>=1"),
    "a range": ("c[x]", "c[x]>=2", "c[x]>=2; python_version >= '3.9'"),
    "an extra's": ("d~=1.0", "d~=1.1", "d~=1.1"),
    "a new extra": ("fast =", 'more = ["g"]\nfast =', "g"),
}


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As uv writes it for PROJECT."""
    folder = tmp_path_factory.mktemp("project")
    wheels = folder / "wheels"
    wheels.mkdir()
    for name in "acdeg":
        make_wheel(wheels, name, "1.0")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "b").mkdir()
    (folder / "b" / "pyproject.toml").write_text('[project]\nname = "b"\nversion = "1"\n')
    command = [str(uv_program()), "lock", "--no-index", "--find-links", "wheels", "--no-cache", "--no-config"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "uv.lock").read_text()


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_not_in_the_lock(lock: str, case: str) -> None:
    before, after, named = CHANGES[case]
    project = tomllib.loads(PROJECT.replace(before, after, 1) if before else PROJECT)["project"]
    assert not_in_lock(project, tomllib.loads(lock)) == ([] if named is None else [named])


def test_a_project_whose_build_tells_what_it_requires(lock: str) -> None:
    assert not_in_lock({"name": "My.App", "dynamic": ["dependencies"]}, tomllib.loads(lock)) == []


def test_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\ndependencies = ["a", "b>1"]\n')
    (tmp_path / "uv.lock").write_text(
        'version = 1\nrequires-python = ">=3.9"\n[[package]]\nname = "x"\nversion = "1"\nsource = {virtual = "."}\n'
    )
    notes = read_requirements(PipInstall(requirements=("-r uv.lock",)), tmp_path, {}).notes
    assert notes == ("uv.lock is older than its pyproject.toml, which requires a, b>1: run `uv lock`",)
