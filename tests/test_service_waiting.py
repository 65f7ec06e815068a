"""A command waits until services are ready: run by this machine's own sh, as the environment's would."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import klock
from klock.errors import ImageError
from klock.image.arguments import wait_of
from klock.steps.service.waiting import TIMED_OUT, telling_its_end, wait_script, waiting_for
from klock.workshop.protocol import Command

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def run(argv: Sequence[str], shell: str = "sh") -> subprocess.CompletedProcess[str]:
    words = ["busybox", "sh"] if shell == "busybox" else [shell]
    return subprocess.run([*words, *argv[1:]], capture_output=True, text=True, check=False)


def waiting(waits: Sequence[str], mark: str = "", seconds: int = 20) -> Sequence[str]:
    command = Command(argv=("printf", "%s.", "a b", "--", "$HOME"), environment={})
    return waiting_for(command, waits, mark=mark, seconds=seconds).argv


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_begins_as_it_is_when_all_are_ready(shell: str, tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        done = run(waiting([str(port), f"test -d '{tmp_path}'"]), shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b.--.$HOME.", "")


def test_it_begins_only_then(tmp_path: Path) -> None:
    """The server begins to listen when it is waited for already, and leaves its name first."""
    script = (
        "import pathlib, socket, sys, time\n"
        "server = socket.socket(socket.AF_INET6); server.bind(('::1', int(sys.argv[1])))\n"
        "pathlib.Path(sys.argv[2]).write_text('up'); server.listen(); sys.stdin.read()\n"
    )
    with socket.socket(socket.AF_INET6) as free:
        free.bind(("::1", 0))
        port = free.getsockname()[1]
    up = tmp_path / "up"
    argv = waiting_for(Command(argv=("cat", str(up)), environment={}), [str(port)], mark="", seconds=30).argv
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as waiter:
        server = subprocess.Popen([sys.executable, "-c", script, str(port), str(up)], stdin=subprocess.PIPE)
        out, _ = waiter.communicate()
        server.communicate(b"")
    assert (waiter.returncode, out) == (0, "up")


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        ("1", "klock: not ready after 1 s: nothing listens on port 1\n"),
        ("false\necho no", None),
        ("false", "klock: not ready after 1 s: false\n"),
    ],
)
def test_it_never_begins_when_the_time_is_over(wait: str, said: str | None) -> None:
    done = run(waiting([wait], seconds=1))
    if said is None:
        assert done.returncode == 0  # the last of its commands succeeds
    else:
        assert (done.returncode, done.stdout, done.stderr) == (TIMED_OUT, "", said)


@pytest.mark.parametrize("text", ["exit 3", "exec false", "false # a comment", "cat <<END\nx\nEND"])
def test_a_service_that_ends_is_not_waited_for(text: str, tmp_path: Path) -> None:
    mark, script = tmp_path / "ended", tmp_path / "script"
    service = telling_its_end(Command(argv=(), environment={}, script=text), str(mark))
    script.write_text(service.script or "")
    own = subprocess.run(["sh", "-c", text], check=False, capture_output=True).returncode
    assert subprocess.run(["sh", script], check=False, capture_output=True).returncode == own
    done = run(waiting(["false"], mark=str(mark), seconds=600))
    assert (done.returncode, done.stderr) == (TIMED_OUT, "klock: a service ended before it was ready: false\n")


def test_the_text_of_an_export_goes_on_when_all_are_ready() -> None:
    script = wait_script(["true", "test x = 'x'"]) + 'exec "$@"'
    assert run(["sh", "-c", script, "klock", "echo", "on"]).stdout == "on\n"
    assert wait_script([]) == ""


@pytest.mark.parametrize("value", [0, 70000, -1, "", "99999", True, 1.5, "a\0b"])
def test_what_is_neither_a_port_nor_a_command_is_refused(value: object) -> None:
    with pytest.raises(ImageError, match=r"run_bash: wait_for is .*"):
        klock.Image().run_bash("serve &", wait_for=value)  # type: ignore[arg-type]


def test_only_a_service_is_waited_for() -> None:
    with pytest.raises(ImageError, match="does not end in '&'"):
        klock.Image().run_bash("serve", wait_for=80)


def test_a_port_is_one_whether_it_is_a_number_or_text() -> None:
    assert wait_of(8888, what="x") == wait_of(" 08888", what="x") == "8888"
