"""A program that klock starts alone can start no other one, whatever it does."""

from __future__ import annotations

import sys
from pathlib import Path

from klock.workshop.lone import run_alone

PYTHON = Path(sys.executable)
STARTS = """
import os, subprocess, sys, threading
def trying(start):
    try:
        start()
    except OSError as error:
        return error.strerror
    return "started"
program, inherited = os.open("/bin/true", os.O_RDONLY), sorted(map(int, os.listdir("/proc/self/fd")))[-1]
child = os.fork()
if child == 0:
    print(trying(lambda: os.execv("/bin/true", ["true"])), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(trying(lambda: subprocess.run(["/bin/true"])))
print(trying(lambda: os.posix_spawn("/bin/true", ["true"], {})))
print(trying(lambda: os.execve(program, ["true"], {})))
thread = threading.Thread(target=lambda: print("a thread"))
thread.start()
thread.join()
"""


def test_it_runs_and_nothing_else(tmp_path: Path) -> None:
    ended = run_alone(PYTHON, ["-I", "-S", "-c", STARTS], folder=tmp_path, environment={})
    assert ended is not None
    assert ended.output.decode().splitlines() == ["Operation not permitted"] * 4 + ["a thread"]
    assert ended.status == 0


def test_it_has_its_folder_its_variables_and_no_input(tmp_path: Path) -> None:
    script = "import os, sys; print(os.getcwd(), dict(os.environ), sys.stdin.read(), file=sys.stderr); sys.exit(3)"
    ended = run_alone(PYTHON, ["-I", "-S", "-c", script], folder=tmp_path, environment={"LC_ALL": "C.UTF-8"})
    assert ended is not None
    assert (ended.status, ended.output.decode().strip()) == (3, f"{tmp_path} {{'LC_ALL': 'C.UTF-8'}}")


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    assert run_alone(tmp_path / "nothing", [], folder=tmp_path, environment={}) is None
