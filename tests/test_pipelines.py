"""The action and the hook of this repository: their own scripts are run, as a runner and pre-commit would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from klock.lockfile import write
from tests.test_lockfile import SMALL

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
STALE = 'import klock as kt\n\nimage = kt.Image().from_docker("python:3.13-slim")\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose lockfile is stale, and a klock on the PATH."""
    (tmp_path / "project/.git").mkdir(parents=True)
    (tmp_path / "project/kimage.py").write_text(STALE)
    write(SMALL, tmp_path / "project/kimage.lock")
    (tmp_path / "bin").mkdir()
    klock = tmp_path / "bin/klock"
    klock.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\nexec {sys.executable} -m klock "$@"\n')
    klock.chmod(0o755)
    return tmp_path / "project"


def run(
    script: str, project: Path, variables: Mapping[str, str], *, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """As a runner runs `shell: bash`: https://docs.github.com/actions, "Exit codes and error action preference"."""
    above = project.parent
    environment = {
        "PATH": path or f"{above}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "KLOCK_CACHE_DIR": str(above / "store"),
        "RUNNER_TEMP": str(above),
        "GITHUB_PATH": str(above / "path"),
        "HOME": str(above),
        **variables,
    }
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def step(name: str, **given: str) -> tuple[str, dict[str, str]]:
    """A step's script, and its variables, with the inputs that are given and else their defaults."""
    (found,) = [each for each in ACTION["runs"]["steps"] if each["name"] == name]
    inputs = {key: each["default"] for key, each in ACTION["inputs"].items()} | given
    variables = {}
    for variable, text in found.get("env", {}).items():
        name_of_input = text.removeprefix("${{ inputs.").removesuffix(" }}")
        variables[variable] = str(inputs[name_of_input])
    return found["run"], variables


def test_a_script_takes_inputs_by_variables_only() -> None:
    """An input in a script's text would be run as the text of whoever wrote it."""
    assert [each["name"] for each in ACTION["runs"]["steps"] if "${{" in each["run"]] == []


def test_the_check_annotates_and_fails(project: Path) -> None:
    done = run(*_with_project(step("Check the lockfile"), project))
    assert done.returncode == 1
    assert "::error file=kimage.py,line=3,title=klock%3A The base is no longer what was locked::" in done.stdout


def test_what_is_not_to_fail_the_job_is_a_warning(project: Path) -> None:
    given = step("Check the lockfile", image="kimage.py", sarif="found.sarif", **{"fail-on": "drift,policy"})
    done = run(*_with_project(given, project))
    assert done.returncode == 0
    assert "::warning file=kimage.py,line=3" in done.stdout
    assert '"level": "warning"' in (project / "found.sarif").read_text()
    called = (project.parent / "called").read_text().splitlines()
    assert called == [f"check --format {form} --fail-on drift,policy kimage.py" for form in ("sarif", "github")]


def test_upstream_is_asked_when_that_is_wanted(project: Path) -> None:
    script, variables = step("Check the lockfile", upstream="true")
    (project.parent / "bin/klock").write_text('#!/bin/sh\necho "$@"\n')
    assert run(script, project, variables).stdout == "check --format github --upstream\n"


def test_the_environment_is_made_of_the_named_image(project: Path) -> None:
    (project.parent / "bin/klock").write_text('#!/bin/sh\nprintf "%s." "$@"\n')
    for image, said in (("", "sync."), ("a b.py:gpu", "sync.a b.py:gpu.")):
        assert run(*_with_project(step("Make the environment", image=image), project)).stdout == said


def test_klock_is_installed_beside_the_system_and_found_by_later_steps(project: Path) -> None:
    above = project.parent
    script, variables = step("Install klock", install="klock-env==1.0")
    assert ACTION["inputs"]["install"]["default"] == "${{ github.action_path }}", "the revision that is used"
    (above / "bin/bwrap").touch(mode=0o755)
    python = above / "bin/python3"
    python.write_text(
        '#!/bin/bash\n[ "$1 $2" = "-m venv" ] || exit 9\nmkdir -p "$3/bin"\n'
        'printf \'#!/bin/sh\\necho "pip: $@"\\n\' > "$3/bin/pip"\nchmod +x "$3/bin/pip"\n'
    )
    python.chmod(0o755)
    done = run(script, project, variables)
    assert (done.returncode, done.stdout) == (0, "pip: install --quiet klock-env==1.0\n")
    assert (above / "path").read_text() == f"{above}/klock/bin\n"


def test_the_hook_fails_for_a_stale_lockfile(project: Path) -> None:
    (hook,) = HOOKS
    assert (hook["language"], hook["pass_filenames"], hook["always_run"]) == ("python", False, True)
    done = run(hook["entry"], project, {})
    assert done.returncode == 1
    assert "stale-base: kimage.py:3: the base is not the locked one\n" in done.stdout


def _with_project(given: tuple[str, dict[str, str]], project: Path) -> tuple[str, Path, dict[str, str]]:
    return given[0], project, given[1]
