"""What a process is given may go away: who reads klock's output, as `head` does, its terminal, the current folder."""

from __future__ import annotations

import os
import pty
import signal
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


@pytest.mark.parametrize("line", ["lokc", "why nosuch", "lock nosuch.py"])
def test_an_error_that_nobody_hears_has_its_status(line: str, tmp_path: Path) -> None:
    """As in `klock sync 2>&1 | head -1`. Python would end with 1 or 120."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "klock", *line.split()]
    environment = {**os.environ, "KLOCK_CACHE_DIR": str(tmp_path / "store")}
    done = subprocess.run(command, stderr=writer, cwd=tmp_path, env=environment, check=False)
    os.close(writer)
    assert done.returncode == 2


WAITS = """
import signal, sys
from klock.commands import main, sync, syncing

def wait(*arguments, **options):
    print("waiting", flush=True)
    signal.pause()

syncing.sync_image = sync.sync_image = wait
main(sys.argv[1:])
"""
LINES_OF_SYNC = ["sync", "sync --dry-run"]
"""The one is read without click."""


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("line", LINES_OF_SYNC)
def test_a_terminal_that_is_closed(line: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.execv(sys.executable, [sys.executable, "-c", WAITS, *line.split()])
        finally:
            os._exit(2)
    said = b""
    while b"waiting" not in said:
        said += os.read(terminal, 100)
    os.close(terminal)
    _, ended = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended) == 128 + signal.SIGHUP


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("line", LINES_OF_SYNC)
def test_a_reader_that_an_interrupt_ends_first(line: str) -> None:
    """Ctrl-C reaches all of `klock sync 2>&1 | tee log`."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WAITS, *line.split()]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == b"waiting\n"
        running.stdout.close()
        running.stderr.close()
        running.send_signal(signal.SIGINT)
    assert running.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize("line", ["lock", "sync", "check", "run -- true", "status"])
def test_a_current_folder_that_is_gone(line: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    remove = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, '-P', *sys.argv[1:]])"
    start = "import sys; from klock.entry import main; sys.argv[0] = 'klock'; main()"
    done = subprocess.run(
        [sys.executable, "-c", remove, "-c", start, *line.split()],
        capture_output=True,
        cwd=tmp_path / "gone",
        env={**os.environ, "KLOCK_CACHE_DIR": str(tmp_path / "store"), "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: No such file or directory")
