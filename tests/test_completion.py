"""Completion as a user gets it: the one line of the documentation, and then Tab."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from klock import completing
from klock import project as project_module
from klock.commands.line import klock
from klock.lockfile.model import FIRST_LINE
from klock.verbs import VERBS

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


LOCKFILE = f"""\
{FIRST_LINE}lock-version = "1.0"

[image]
name = "bookworm"

[[base]]
debs = [
    {{name = "python3", version = "3.11.2-1+b1", path = "pool/main/p/python3"}},
]

[[steps]]
variables = [
    {{name = "PLACE", written = "the Moon", value = "the Moon"}},
]

[[packages]]
name = "humanize"
wheels = [
    {{name = "humanize-4.17.0-py3-none-any.whl", url = "https://h/humanize.whl"}},
]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two images, whose current folder is one below it; what is above is not its own."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    for name in ("kimage.py", "other.py"):
        (folder / name).touch()
    (tmp_path / "above.lock").write_text(LOCKFILE)
    (folder / "kimage.lock").write_text(LOCKFILE)
    (folder / "kimage.gpu.lock").write_text(LOCKFILE.replace("humanize", "torch"))
    (folder / "uv.lock").write_text('version = 1\n[[package]]\nname = "of-uv"\n')
    monkeypatch.chdir(folder)
    return folder


def ask(monkeypatch: pytest.MonkeyPatch, shell: str, *words: str) -> None:
    monkeypatch.setenv("_KLOCK_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words) if shell == "bash" else " ".join(words))
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))


def values(shell: str, answer: str) -> list[str]:
    """What is completed, without the help beside it, in which click cuts more off."""
    lines = answer.splitlines()
    return lines[1::3] if shell == "zsh" else [line.partition(",")[2].partition("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("",), list(VERBS)),
        (("sta",), ["status"]),
        (("why", ""), ["PLACE", "humanize", "python3", "torch"]),
        (("why", "hu"), ["humanize"]),
        (("remove", ""), ["humanize", "torch"]),
        (("logs", ""), ["kimage.py", "kimage.py:gpu"]),
        (("lock", "k"), ["kimage.py", "kimage.py:gpu"]),
    ],
    ids=str,
)
def test_the_quick_answer_is_what_click_answers(
    shell: str, words: tuple[str, ...], found: list[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(monkeypatch, shell, "klock", *words)
    quick = completing.answer_to_shell()
    kind = get_completion_class(shell)
    assert kind is not None and quick is not None
    slow = kind(klock, {}, "klock", "_KLOCK_COMPLETE").complete()
    assert values(shell, quick) == values(shell, slow) == found


@pytest.mark.parametrize(
    "words",
    [("why", "--t"), ("-q", "why", ""), ("cache", ""), ("why", "'hu"), ("lock", "src/"), ("run", "")],
    ids=str,
)
def test_what_takes_more_is_asked_of_the_command_line(
    words: tuple[str, ...], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(monkeypatch, "bash", "klock", *words)
    assert completing.answer_to_shell() is None


def test_options_of_a_verb_do_not_keep_its_names_from_being_completed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (("why", "--format", "json", "to"), ("-q", "remove", "humanize", "to")):
        ask(monkeypatch, "bash", "klock", *words)
        kind = get_completion_class("bash")
        assert kind is not None
        assert kind(klock, {}, "klock", "_KLOCK_COMPLETE").complete() == "plain,torch"


@pytest.mark.parametrize(("begun", "found"), [(":", "gpu"), (":g", "gpu"), (":x", None)])
def test_bash_has_a_colon_for_a_word(
    begun: str, found: str | None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(monkeypatch, "bash", "klock", "logs", "kimage.py", ":", *filter(None, [begun[1:]]))
    assert completing.answer_to_shell() == (f"plain,{found}\n" if found else None)


def test_lockfiles_above_count_as_far_as_the_project_reaches(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "src")
    assert completing.images() == ["../kimage.py", "../kimage.py:gpu"]
    for file in project.glob("kimage.*lock"):
        file.unlink()
    assert completing.images() == completing.names("why") == []


def test_a_project_is_what_it_is_elsewhere() -> None:
    assert completing._MARKS == project_module._MARKS


def test_a_folder_above_that_may_not_be_listed_has_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as /home on a machine of many: Tab would show a traceback."""
    listed = os.listdir

    def refuse(folder: str) -> list[str]:
        if folder == str(project):
            raise PermissionError(13, "Permission denied", folder)
        return listed(folder)

    monkeypatch.chdir(project / "src")
    monkeypatch.setattr(os, "listdir", refuse)
    assert completing.images() == completing.names("why") == []


def test_a_folder_that_is_gone_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ask(monkeypatch, "bash", "klock", "sync", "")
    assert completing.answer_to_shell() is None


def test_a_dockerfile_has_the_projects_lockfile(project: Path) -> None:
    (project / "kimage.py").rename(project / "Dockerfile")
    assert completing.images() == ["Dockerfile", "Dockerfile:gpu"]
