"""Jupyter kernels in a locked environment: what is written for Jupyter, and a kernel that a real client talks to."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from klock.errors import KlockError
from klock.kernels import data_folder, install_kernel, kernel_spec
from klock.lockfile.model import LockedPackage, TargetLock, WheelArtifact
from tests.test_lockfile import SMALL
from tests.test_upstream_outdated import PYTHON

WHEEL = WheelArtifact(name="ipykernel-7-py3-none-any.whl", url="https://x", size=1, sha256="a" * 64)
IPYKERNEL = LockedPackage(name="ipykernel", version="7", index=None, artifact=WHEEL)
LOCK: TargetLock = replace(SMALL.targets[0], interpreter=PYTHON, packages=(IPYKERNEL,))


def test_what_jupyter_reads(tmp_path: Path) -> None:
    document = kernel_spec(LOCK, image=Path("/p/kimage.py:gpu"), name="Mine", display_name="Mine, locked")
    there = install_kernel(document, name="Mine", folder=tmp_path)
    assert there == tmp_path / "kernels/mine", "Jupyter looks for names in lower case"
    read = json.loads((there / "kernel.json").read_text())
    assert read["argv"][:3] == [sys.executable, "-m", "klock"]
    assert read["argv"][3:] == [
        *("run", "--quiet", "--engine", "sandbox", "--image", "/p/kimage.py:gpu"),
        *("--mount", "{connection_file}:{connection_file}:ro", "--mount", ".:/work", "--workdir", "/work", "--"),
        *("/usr/bin/python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"),
    ]
    assert (read["language"], read["interrupt_mode"]) == ("python", "message")


def test_an_environment_without_ipykernel_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(KlockError, match="no ipykernel") as error:
        kernel_spec(replace(LOCK, packages=()), image=Path("k"), name="x", display_name="x")
    assert error.value.hint is not None and "klock add ipykernel" in error.value.hint


@pytest.mark.parametrize("name", ["", "a b", "../x", "ü"])
def test_a_name_that_jupyter_refuses(name: str, tmp_path: Path) -> None:
    with pytest.raises(KlockError, match="is not a valid kernel name"):
        install_kernel({}, name=name, folder=tmp_path)


@pytest.mark.parametrize(
    ("environ", "prefix", "folder"),
    [
        ({"HOME": "/h"}, None, "/h/.local/share/jupyter"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/d"}, None, "/d/jupyter"),
        ({"HOME": "/h", "JUPYTER_DATA_DIR": "/j"}, None, "/j"),
        ({"HOME": "/h", "JUPYTER_DATA_DIR": "/j"}, Path("/venv"), "/venv/share/jupyter"),
    ],
)
def test_where_jupyter_looks(environ: dict[str, str], prefix: Path | None, folder: str) -> None:
    assert data_folder(environ, prefix) == Path(folder)
