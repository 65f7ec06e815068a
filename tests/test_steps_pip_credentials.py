"""Credentials for indexes that a project's settings give names."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.lockfile.model import LockedFile, PipLock
from klock.steps.kind import UNKNOWN_LAYER
from klock.steps.pip.credentials import index_names

INDEX = '[[{}index]]\nname = "corp"\nurl = "https://corp.example/simple"\n[[{}index]]\nurl = "https://nameless"\n'
FILES = {
    "pyproject.toml": (INDEX.replace("{}", "tool.uv."), True),
    "uv.toml": (INDEX.replace("{}", ""), True),
    "requirements.txt": (INDEX.replace("{}", ""), False),
    "broken/uv.toml": ("[[index", False),
    "odd/uv.toml": ("index = 5", False),
    "other/pyproject.toml": ("tool = 5", False),
}


@pytest.mark.parametrize("name", FILES)
def test_names_of_indexes(tmp_path: Path, name: str) -> None:
    text, has_names = FILES[name]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    files = tuple(LockedFile(path=path, digest="sha256:" + "0" * 64) for path in (name, "gone/uv.toml"))
    step = PipLock(requirements=(), packages=(), layer=UNKNOWN_LAYER, files=files)
    assert index_names(step, tmp_path) == ({"corp": "https://corp.example/simple"} if has_names else {})
