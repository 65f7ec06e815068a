"""The prompt of `klock shell`, in the shells that images have, on a real terminal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from klock.commands.shell import prompt_variables
from tests.terminal import typed

RC = 'PS1="mine> "\n'
SHELLS = {
    "sh": (["sh", "-i"], "(my_project) "),
    "bash that no file sets the prompt of": (["bash", "--norc", "-i"], "(my_project) "),
    "bash whose file sets another prompt": (["bash", "--rcfile", "rc", "-i"], "(my_project) mine> "),
}


@pytest.mark.parametrize(("argv", "prompt"), SHELLS.values(), ids=SHELLS)
def test_a_prompt_begins_with_the_projects_name(argv: list[str], prompt: str, tmp_path: Path) -> None:
    assert shutil.which(argv[0])
    (tmp_path / "rc").write_text(RC)
    (tmp_path / "tmp").mkdir()
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **prompt_variables("my project")}
    variables["HISTFILE"] = f"{tmp_path}{variables['HISTFILE']}"
    shown, status = typed(argv, ["echo a$((1+1))b", "exit 3"], prompt=prompt, cwd=tmp_path, env=variables)
    assert status == 3, shown
    assert "\na2b\n" in shown
    assert shown.count("(my_project) ") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rc", "tmp"], (
        "what was typed is no file of the environment"
    )
