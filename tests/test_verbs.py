"""What klock is, it says without loading what it does: the same words as the command line has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import klock
from klock.commands import main as run_command_line
from klock.commands.line import klock as command_line
from klock.verbs import VERBS, answer_to, overview


def test_the_overview_is_the_command_lines_own() -> None:
    assert overview() == CliRunner().invoke(command_line, ["--help"], prog_name="klock", terminal_width=80).output


def test_every_verb_has_a_module() -> None:
    assert [name for name in VERBS if command_line.get_command(None, name) is None] == []  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [[], ["lock"], ["--help", "lock"], ["lock", "--version"], ["-h", "-h"]])
def test_other_questions_are_the_command_lines(arguments: list[str]) -> None:
    assert answer_to(arguments) is None


def test_a_narrow_terminal_has_its_lines_broken_by_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert answer_to(["--help"]) is None


@pytest.mark.parametrize(("argument", "shown"), [("--version", f"klock {klock.__version__}\n"), ("-h", overview())])
def test_what_klock_is_takes_nothing_but_python(argument: str, shown: str) -> None:
    """The start is part of every command's time."""
    script = (
        "import os, sys; sys.argv[1:] = [%r]; before = set(sys.modules); leave = os._exit\n"
        "def told(status): print(*sorted(set(sys.modules) - before), file=sys.stderr, flush=True); leave(status)\n"
        "os._exit = told\n"
        "from klock.entry import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script % argument], capture_output=True, text=True, check=True)
    assert done.stdout == shown
    imported = set(done.stderr.split()) - {"__future__", "atexit"}
    assert imported == {"klock", "klock.entry", "klock.verbs", "klock.version"}


@pytest.mark.parametrize(("arguments", "status"), [(["check", "--no-such"], 2), (["lock", "--help"], 0)])
def test_what_is_left_to_do_at_the_end_is_done(arguments: list[str], status: int) -> None:
    """klock frees nothing that goes with its process, and still ends as Python does: what waits for the end has its
    turn, and what was printed is there."""
    script = (
        "import atexit, sys, threading; from klock.entry import main; sys.argv[1:] = {!r}; "
        "atexit.register(print, 'told at the end'); {} main()"
    )
    thread = (
        "threading.Thread(target=lambda: (threading.main_thread().join(), print('a thread had its time'))).start();"
    )
    for begun, ends in (("", "told at the end\n"), (thread, "a thread had its time\ntold at the end\n")):
        command = [sys.executable, "-c", script.format(arguments, begun)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.endswith(ends)) == (status, True)
        assert ("No such option" in done.stderr) == (status == 2)


def test_the_end_does_not_hide_what_cannot_be_written() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "klock", "lock", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert b"No space left on device" in done.stderr


IN_ASCII = {"PATH": os.defpath, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_names_of_files_are_utf_8_in_every_locale(tmp_path: Path) -> None:
    """The same bytes have to be the same text wherever an image is locked."""
    (tmp_path / "kimage.py").write_text("import sys\nraise Exception(sys.getfilesystemencoding())\n")
    argv = [sys.executable, "-m", "klock", "check"]
    done = subprocess.run(argv, env=IN_ASCII, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: kimage.py:2: Exception: utf-8")
    argv = [sys.executable, "-c", "import klock; klock.check()"]
    done = subprocess.run(argv, env=IN_ASCII, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "KlockError: Python reads the names of files as ascii, and a lockfile has them in UTF-8" in done.stderr


def test_too_little_memory_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def no_memory(**_: object) -> int:
        raise MemoryError

    monkeypatch.setattr(command_line, "main", no_memory)
    with pytest.raises(SystemExit) as ending:
        run_command_line(["check"])
    assert (ending.value.code, capsys.readouterr().err.splitlines()[0]) == (2, "error: there is not enough memory")
