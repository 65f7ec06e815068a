"""Completion in bash as a user gets it: the one line of the documentation, and then Tab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASKED = {
    "verbs": (["klock", "sta"], "plain,status"),
    "commands of a group": (["klock", "cache", "pru"], "plain,prune"),
    "options": (["klock", "diff", "--for"], "plain,--format"),
    "values": (["klock", "diff", "--format", "mark"], "plain,markdown"),
}


@pytest.mark.parametrize(("words", "answer"), ASKED.values(), ids=ASKED)
def test_klock_completes(words: list[str], answer: str) -> None:
    env = {
        **os.environ,
        "_KLOCK_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run([sys.executable, "-m", "klock"], env=env, capture_output=True, text=True, check=False)
    assert answer in done.stdout.splitlines()


def test_the_line_of_the_documentation_makes_bash_complete() -> None:
    asked = "COMP_WORDS=(klock sta); COMP_CWORD=1; _klock_completion klock"
    script = f'eval "$(klock completion bash)"; {asked}; echo "${{COMPREPLY[@]}}"'
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script, "klock"], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["status"]
