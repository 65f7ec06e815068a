"""When whoever reads klock's output goes away, as `head` does, the status is that of SIGPIPE and nothing is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from klock.lockfile import write
from tests.test_lockfile import SMALL

LINES = ["--help", "--version", "lock --help", "tree", "status", "check --format json", "man", "lokc"]


@pytest.mark.parametrize("line", LINES)
def test_a_reader_that_is_gone(line: str, tmp_path: Path) -> None:
    write(SMALL, tmp_path / "kimage.lock")
    (tmp_path / "kimage.py").write_text("import klock as kt\n\nimage = kt.Image().from_docker('python:3.13-slim')\n")
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "KLOCK_CACHE_DIR": str(tmp_path / "store")}
    command = [sys.executable, "-m", "klock", *line.split()]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, text=True, check=False
    )
    os.close(writer)
    # What prints nothing to stdout is not concerned.
    expected = 2 if line == "lokc" else 141
    assert (done.returncode, "Traceback" in done.stderr) == (expected, False), done.stderr
