"""The real kubetorch from PyPI, in folders of its own that are made once: its dependencies are none of klock's."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import uv

from tests.run_folder import made_once, test_cache

__all__ = ["KUBETORCHES", "kubetorch_folder", "run_with_kubetorch"]

KUBETORCHES = ("0.4.1", "0.5.1")
"""The versions that klock is compared with."""


def kubetorch_folder(version: str, *, python: str | None = None) -> Path:
    """A folder with kubetorch and its dependencies, to be put on a Python's path; `python` (`3.11`) says of which, if
    it is not the one that runs the tests. With its server, which is what runs in pods, from 0.5 on."""
    extra = "" if version.startswith("0.4.") else "[server]"
    wanted = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    final = test_cache() / f"kubetorch-{version}-py{wanted}"

    def make(folder: Path) -> None:
        command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", sys.executable, "--link-mode", "copy"]
        command += ["--python-version", wanted, "--only-binary", ":all:", "--target", str(folder)]
        done = subprocess.run([*command, f"kubetorch{extra}=={version}"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.fail(f"kubetorch cannot be installed:\n{done.stderr}", pytrace=False)

    return made_once(final, make)


def run_with_kubetorch(version: str, script: str, *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Runs a Python program that can import that kubetorch and klock; what it prints."""
    paths = [str(kubetorch_folder(version)), str(Path(__file__).parents[2]), sysconfig.get_path("purelib")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{script}"],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
