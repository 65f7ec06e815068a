"""`klock add` and `klock remove`: the image file is edited and locked, or it is as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from klock import editing
from klock.api import Project
from klock.errors import KlockError, ResolutionError

IMAGE = 'import klock as kt\n\nimage = kt.Image().from_docker("x").pip_install(["a"])\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "kimage.py").write_text(IMAGE)
    return tmp_path / "kimage.py"


def locking(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> None:
    """What happens while klock locks, which fails."""

    def lock(_: Project) -> None:
        what()
        raise ResolutionError("nothing fits")

    monkeypatch.setattr(Project, "lock", lock)


def test_an_image_that_cannot_be_locked_is_taken_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    locking(monkeypatch, lambda: seen.append(file.read_text()))
    with pytest.raises(ResolutionError):
        editing.add(["b>=2", "a>1"], file)
    assert seen == [IMAGE.replace('["a"]', '["a>1", "b>=2"]')]
    assert file.read_text() == IMAGE
    assert [path.name for path in file.parent.iterdir()] == ["kimage.py"]


def test_what_somebody_else_wrote_meanwhile_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locking(monkeypatch, lambda: file.write_text("# mine\n"))
    with pytest.raises(ResolutionError):
        editing.add("b", file)
    assert file.read_text() == "# mine\n"


def test_the_mark_that_an_editor_puts_before_utf_8_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(IMAGE, "utf-8-sig")
    monkeypatch.setattr(Project, "lock", lambda _: None)
    editing.add("b", file)
    assert file.read_bytes() == IMAGE.replace('"a"', '"a", "b"').encode("utf-8-sig")


def test_a_file_in_another_encoding_is_left(file: Path) -> None:
    before = f"# coding: latin-1\n# ä\n{IMAGE}".encode("latin-1")
    file.write_bytes(before)
    with pytest.raises(KlockError, match=r"kimage\.py cannot be edited"):
        editing.add("b", file)
    assert file.read_bytes() == before
