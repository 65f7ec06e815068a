"""klock's own lockfile: the image in the repository's root is what was locked, and what these tests run on."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
READER = ROOT / ".ci/locked_requirements.py"
LOCKFILE = ROOT / "kimage.lock"
DOES_NOT_FIT = 3


def locked_requirements(lockfile: Path) -> subprocess.CompletedProcess[str]:
    """What `.ci/prepare` installs, as the Python of these tests reads it."""
    return subprocess.run([sys.executable, READER, lockfile], capture_output=True, text=True, check=False)


def test_the_committed_lockfile_is_true_to_the_committed_image(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "klock", "check"],
        cwd=ROOT,
        env={"KLOCK_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert not list(tmp_path.glob("*/*/*.whl")), "a check fetches nothing"


def test_the_action_and_the_hook_of_this_repository_find_nothing_in_it(tmp_path: Path) -> None:
    """What others are told to use, on this lockfile: the scripts themselves, as they stand in the two files."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/klock"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m klock "$@"\n')
    program.chmod(0o755)
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    steps = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))["runs"]["steps"]
    (check,) = [step["run"] for step in steps if step["name"] == "Check the lockfile"]
    report = tmp_path / "report.sarif"
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "KLOCK_CACHE_DIR": str(tmp_path / "store"),
        **dict.fromkeys(("KLOCK_IMAGE", "KLOCK_FAIL_ON", "KLOCK_UPSTREAM"), ""),
        "KLOCK_SARIF": str(report),
    }
    for script in (hook["entry"], check):
        command = ["bash", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert json.loads(report.read_text())["runs"][0]["results"] == []


def test_these_tests_run_on_the_locked_versions() -> None:
    done = locked_requirements(LOCKFILE)
    if done.returncode == DOES_NOT_FIT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    locked = dict(line.split(" ")[0].split("==") for line in done.stdout.splitlines())
    assert {name: version(name) for name in locked} == locked, "run .ci/prepare test"


MAJOR, MINOR = sys.version_info[:2]

LOCK = f"""\
targets = ["linux/amd64/cpu", "linux/arm64/cpu"]
[[python]]
version = "{MAJOR}.{MINOR}.0"
implementation = "cpython"
libc = "glibc 2.17"
[[packages]]
name = "six"
version = "1.16.0"
index = "https://pypi.org/simple"
wheels = [{{name = "six-1.16.0-py3-none-any.whl", url = "https://h/six.whl", size = 1, hashes = {{sha256 = "8abb"}}}}]
"""

# What stands in LOCK, what stands there instead, exit status, stdout, and what stderr says.
READ: dict[str, tuple[str, str, int, str, str]] = {
    "a wheel is a line with its hash": ("", "", 0, "six==1.16.0 --hash=sha256:8abb\n", ""),
    "another minor version": (
        f"{MAJOR}.{MINOR}.0",
        f"{MAJOR}.{MINOR}1.0",
        DOES_NOT_FIT,
        "",
        f"for cpython {MAJOR}.{MINOR}1",
    ),
    "another interpreter": ("cpython", "pypy", DOES_NOT_FIT, "", f"is for pypy {MAJOR}.{MINOR}"),
    "an older C library than the locked one": ("glibc 2.17", "glibc 9.9", DOES_NOT_FIT, "", "with glibc 9.9 or newer"),
    "another C library": ("glibc 2.17", "musl 1.2", DOES_NOT_FIT, "", "with musl 1.2 or newer"),
    "a package that is not a wheel of an index": ("index =", "path =", 1, "", "six 1.16.0 is not locked as one wheel"),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_installed_of_a_lockfile(case: str, tmp_path: Path) -> None:
    there, instead, status, stdout, stderr = READ[case]
    assert there in LOCK
    lockfile = tmp_path / "kimage.lock"
    lockfile.write_text(LOCK.replace(there, instead) if there else LOCK, "utf-8")
    done = locked_requirements(lockfile)
    assert (done.returncode, done.stdout) == (status, stdout)
    assert stderr in done.stderr
