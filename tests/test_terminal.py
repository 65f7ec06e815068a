"""What progress looks like: plain lines in a log, a live line on a real terminal that is always given back."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from klock.commands.terminal import _Live

SCRIPT = """
from klock.commands.terminal import progress_on_stderr
with progress_on_stderr(quiet={quiet}, verbose={verbose}) as progress:
    progress.begin("step 1/2 pip_install numpy (kimage.py:4)")
    progress.begin("fetching 2 files", total=10)
    progress.advance(4)
    progress.advance(6)
    progress.done("all hashes match")
    progress.output(b"from the step\\n")
    progress.warn("numpy 2.0 was yanked")
    progress.done("43 entries")
    progress.begin("step 2/2 run_bash false (kimage.py:5)")
    {ending}
"""
ROOT = str(Path(__file__).parent.parent)
PLAIN = """\
step 1/2 pip_install numpy (kimage.py:4)
  fetching 2 files
    all hashes match
  warning: numpy 2.0 was yanked
  43 entries
step 2/2 run_bash false (kimage.py:5)
"""
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def run(
    *,
    quiet: bool = False,
    verbose: bool = False,
    ending: str = "pass",
    stderr: int = subprocess.PIPE,
    term: str = "xterm",
) -> bytes:
    script = SCRIPT.format(quiet=quiet, verbose=verbose, ending=ending)
    environment = {"PATH": os.environ["PATH"], "TERM": term, "PYTHONPATH": ROOT, "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-c", script], stderr=stderr, env=environment, check=False)
    return done.stderr or b""


def on_terminal(ending: str = "pass", *, term: str = "xterm") -> bytes:
    """What arrives at a terminal."""
    mine, its = pty.openpty()
    try:
        run(ending=ending, stderr=its, term=term)
    finally:
        os.close(its)
    received = b""
    while True:
        try:
            chunk = os.read(mine, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        received += chunk
    os.close(mine)
    return received


def test_in_a_log_each_task_has_a_line_at_its_start_and_one_at_its_end() -> None:
    assert run().decode() == PLAIN


def test_verbose_shows_what_steps_print() -> None:
    assert "from the step\n" in run(verbose=True).decode()


def test_verbose_shows_where_the_time_goes() -> None:
    ending = "with progress.stage('compile'): pass"
    assert b"compile" not in run(ending=ending)
    assert run(verbose=True, ending=ending).endswith(b"\n  compile: 0.00 s\n")


def test_quiet_prints_nothing() -> None:
    assert run(quiet=True) == b""


def test_on_a_terminal_finished_tasks_stay_with_their_own_result() -> None:
    received = on_terminal().decode()
    assert "  fetching 2 files: all hashes match\r\n" in received
    assert "step 1/2 pip_install numpy (kimage.py:4): 43 entries\r\n" in received
    assert "warning: numpy 2.0 was yanked\r\n" in received
    assert "10 B of 10 B" in received


def test_a_terminal_that_cannot_draw_again_gets_the_lines_of_a_log() -> None:
    for term in ("dumb", ""):
        assert on_terminal(term=term).decode().replace("\r\n", "\n") == PLAIN


def test_the_cursor_comes_back_however_it_ends() -> None:
    for ending in ("pass", "raise KeyboardInterrupt", "raise SystemExit(2)"):
        received = on_terminal(ending)
        assert received.count(HIDE) == received.count(SHOW) > 0
        assert received.rfind(SHOW) > received.rfind(HIDE)


WAITS = """
import os, sys
from klock.commands.terminal import progress_on_stderr
with progress_on_stderr(quiet=False, verbose=False) as progress:
    progress.begin("making a base")
    os.read(0, 1)
    progress.done("made")
    os.execv("/bin/sh", ["sh", "-c", "sleep 0.5; echo still here >&2"])
"""


def test_the_clock_goes_on_while_klock_waits() -> None:
    """Until a program takes klock's place."""
    mine, its = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": ROOT, "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stderr=its, env=environment) as process:
        os.close(its)
        received = b""
        while b"0:00:01" not in received:
            received += os.read(mine, 1 << 16)
        process.communicate(b"!")
    while b"still here" not in received:
        received += os.read(mine, 1 << 16)
    os.close(mine)
    assert process.returncode == 0
    assert b"making a base: made" in received


LONG = """
import sys
from klock.commands.terminal import progress_on_stderr
with progress_on_stderr(quiet=False, verbose=False) as progress:
    progress.begin("step 1/2 run_bash " + "\\u5bbd" * 200, total=9, unit="files")
    progress.advance(5)
    with progress.stage("unpack"):
        sys.stdin.read(1)
    progress.done("made")
"""


def test_how_far_it_is_has_its_place_beside_the_longest_name() -> None:
    mine, its = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": ROOT, "COLUMNS": "70", "LANG": "C.UTF-8"}
    with subprocess.Popen([sys.executable, "-c", LONG], stdin=subprocess.PIPE, stderr=its, env=environment) as process:
        os.close(its)
        received = b""
        while b"0:00:01 unpack, 5 of 9 files" not in received:
            received += os.read(mine, 1 << 16)
        process.communicate(b"!")
    os.close(mine)
    assert "\u5bbd\u2026".encode() in received


class HeldUp(io.StringIO):
    """A terminal that is held up, by Ctrl-S or a slow connection: the timer comes in the midst of each write."""

    def __init__(self, tick: Callable[[], None]) -> None:
        super().__init__()
        self._tick = tick
        self._is_writing = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        assert not self._is_writing, "as of any buffered stream: RuntimeError, reentrant call"
        self._is_writing = True
        self._tick()
        self._is_writing = False
        return super().write(text)


def test_a_terminal_that_is_held_up_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    live = _Live()

    def tick() -> None:
        live._drawn = -1.0
        live._tick()

    held_up = HeldUp(tick)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", held_up)
    live.begin("making a base")
    tick()
    live.done("made")
    drawn, _, said = held_up.getvalue().rpartition("making a base: ")
    assert "making a base" in drawn and said.startswith("made")


BEATS = """
import os, sys, time
from klock.commands import terminal
terminal._BEAT = 0.3
with terminal.progress_on_stderr(quiet={quiet}, verbose=False) as progress:
    progress.begin("step 1/2 run_bash make (kimage.py:4)")
    progress.output(b"compiling a\\rcompiling b\\ncompiling c")
    progress.beside(["stage web"])
    with progress.stage("lay out 9 wheels", lambda: "3 done"):
        os.read(0, 1)
    progress.begin("make Debian", total=110, unit="packages")
    progress.advance(7)
    os.read(0, 1)
    progress.done("made")
    progress.begin("fetch https://h/x.git")
    progress.advance(1_234_567)
    os.read(0, 1)
    progress.done("1.2 MB")
    progress.done("done")
    time.sleep(0.7)
"""


def beats(*, quiet: bool = False) -> list[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ROOT}
    script = BEATS.format(quiet=quiet)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdin=pipe, stderr=pipe) as process:
        assert process.stdin is not None and process.stderr is not None
        lines: list[str] = []
        for _ in range(3):
            while not quiet and not (lines and "..." in lines[-1]):
                lines.append(process.stderr.readline().decode())
            process.stdin.write(b"!")
            process.stdin.flush()
            if not quiet:
                lines.append(process.stderr.readline().decode())
        process.stdin.close()
        return [*lines, *process.stderr.read().decode().splitlines(keepends=True)]


def test_a_log_is_never_silent_for_long_and_says_how_far_a_task_is() -> None:
    lines = [line for line in beats() if line]
    assert lines[0] == "step 1/2 run_bash make (kimage.py:4)\n"
    assert "  ... after 0:00:00, lay out 9 wheels, 3 done, beside stage web, compiling b\n" in lines
    assert any(line.startswith("    ... after 0:00:0") and "7 of 110 packages" in line for line in lines)
    assert any(line.startswith("    ... after 0:00:0") and ", 1.2 MB, beside" in line for line in lines)
    assert "..." not in lines[-1], "nothing is said when nothing goes on"


def test_a_quiet_one_is() -> None:
    assert beats(quiet=True) == []


SELDOM = """
import os
from klock.commands import terminal
terminal._BEAT = 0.3
with terminal.progress_on_terminal(quiet={quiet}) as progress:
    progress.begin("read every file")
    with progress.stage("hash", lambda: "7 of 9 paths"):
        os.read(0, 1)
    progress.done("compared")
"""


def test_a_command_that_says_little_says_in_a_log_that_it_goes_on() -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ROOT}
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", SELDOM.format(quiet=False)]
    with subprocess.Popen(argv, env=environment, stdin=pipe, stderr=pipe) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"... read every file, after 0:00:00, hash, 7 of 9 paths\n"
        process.communicate(b"!")
    argv = [sys.executable, "-c", SELDOM.format(quiet=True)]
    assert subprocess.run(argv, env=environment, input=b"!", capture_output=True, check=True).stderr == b""


COUNTS = """
import os, sys, time
from klock.commands.terminal import progress_on_stderr
from klock.forks import Tally, map_in_forks
with progress_on_stderr(quiet=False, verbose=False) as progress:
    progress.begin("step 1/1 pip_install numpy (kimage.py:4)")
    tally = Tally("wheels", 3, parts=3)
    def work(number):
        os.read(0, 1)
        tally.add(part=number)
    os.sched_getaffinity = lambda _: {0, 1}
    with progress.stage("lay out", tally):
        map_in_forks(work, range(3), cost=lambda _: 1)
    progress.done("made")
"""


def test_what_processes_have_done_is_counted_on_the_terminal_while_they_work() -> None:
    mine, its = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": ROOT, "COLUMNS": "160"}
    argv = [sys.executable, "-c", COUNTS]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=its, env=environment) as process:
        os.close(its)
        assert process.stdin is not None
        received = b""
        for done in range(3):
            while b"lay out, %d of 3 wheels" % done not in received:
                received += os.read(mine, 1 << 16)
            process.stdin.write(b"!")
            process.stdin.flush()
        while b"made" not in received:
            received += os.read(mine, 1 << 16)
    os.close(mine)
    assert process.returncode == 0


MOVES = """
import sys
from klock.commands.terminal import progress_on_stderr
with progress_on_stderr(quiet=False, verbose=False) as progress:
    progress.begin("step 1/2 run_bash make (kimage.py:4)")
    progress.output(b"compiling \\x1b[31mred.c\\n")
    progress.beside(["step 1 once more"])
    with progress.stage("unpack"):
        sys.stdin.read(1)
    progress.done("made")
"""


def test_a_terminal_shows_the_last_line_the_part_and_what_goes_on_beside() -> None:
    mine, its = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": ROOT, "COLUMNS": "160"}
    with subprocess.Popen([sys.executable, "-c", MOVES], stdin=subprocess.PIPE, stderr=its, env=environment) as process:
        os.close(its)
        received = b""
        while b"compiling red.c" not in received or b"unpack, beside step 1 once more" not in received:
            received += os.read(mine, 1 << 16)
        process.communicate(b"!")
    os.close(mine)
    assert b"[31m" not in received
