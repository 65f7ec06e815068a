"""Local projects: what they require comes from where uv takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from klock.packages.projects import read_project
from klock.packages.request import LocalProjectSource

SOURCES = '[tool.uv.sources]\na = {url = "https://h/a-1.zip"}\n'


@pytest.mark.parametrize(
    ("own", "root", "text"),
    [
        (SOURCES, "", "a @ https://h/a-1.zip"),
        ("", SOURCES, "a @ https://h/a-1.zip"),
        (SOURCES.replace("a-1", "a-2"), SOURCES, "a @ https://h/a-2.zip"),
        ("", "", "a"),
    ],
    ids=["its own", "its workspace's", "its own first", "none"],
)
def test_sources_of_a_project_and_of_its_workspace(tmp_path: Path, own: str, root: str, text: str) -> None:
    project = tmp_path / "app/pyproject.toml"
    project.parent.mkdir()
    project.write_text(f'[project]\nname = "app"\nversion = "1"\ndependencies = ["a"]\n{own}')
    (tmp_path / ".git").mkdir()
    (tmp_path / "pyproject.toml").write_text(f'[tool.uv.workspace]\nmembers = ["app"]\n{root}')
    source = LocalProjectSource(path="/app", source=project.parent, origin="kimage.py:3")
    [line] = read_project(source, cast(Any, "not asked for anything")).requires
    assert line.text == text
