"""A command in the container that klock runs in: klock stays, unless it has nothing left to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = """
import os
from klock.places.here.execution import execute
from klock.running import captured
from klock.workshop.protocol import Command, Network

def shell(text):
    return Command(argv=("sh", "-c", text), environment=dict(os.environ), network=Network.HOST)

command = shell("echo command $$; exit 7")
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the container it runs in")


def run(script: str, **variables: str) -> tuple[int, str, int]:
    """Status, output and process id of a process that runs `script`."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )
    output, _ = process.communicate()
    return process.returncode, output, process.pid


def test_whoever_calls_klock_goes_on_afterwards() -> None:
    status, output, pid = run("print('status', execute(command))")
    first, second = output.splitlines()
    assert (status, second) == (0, "status 7")
    assert first != f"command {pid}"


def test_the_command_takes_the_place_of_a_process_that_only_ends() -> None:
    status, output, pid = run("execute(command, takes_over=True); print('klock is still here')")
    assert (status, output) == (7, f"command {pid}\n")


def test_services_print_where_the_command_prints(tmp_path: Path) -> None:
    script = """
text = "echo service; touch $STARTED; sleep 100"
service = Command(argv=("sh",), environment=dict(os.environ), network=Network.HOST, script=text)
waiting = shell("until [ -e $STARTED ]; do sleep 0.01; done; echo command")
with captured() as (streams, outputs):
    execute(waiting, services=[service], streams=streams, takes_over=True)
print(outputs)
"""
    status, output, _ = run(script, STARTED=str(tmp_path / "started"))
    assert (status, output) == (0, "[b'service\\ncommand\\n', b'']\n")


@pytest.mark.parametrize("asked", ["host_pid=True", "host_ipc=True", "shm_size=1"])
def test_what_the_container_shares_was_decided_when_it_started(asked: str) -> None:
    script = f"""
from dataclasses import replace
from klock.errors import EngineError
try:
    execute(replace(command, {asked}))
except EngineError as error:
    print(error, "|", error.hint)
"""
    status, output, _ = run(script)
    option = "--" + asked.partition("=")[0].replace("_", "-")
    assert status == 0
    said, _, hint = output.partition(" | ")
    assert said == f"{option}: a command in a running container has that container's processes and memory"
    assert hint.startswith(f"leave out {option}, or start the container so: docker run --")
