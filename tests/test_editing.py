"""`klock add` and `klock remove`: the image file is edited and locked, or it is as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
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
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == ["kimage.py"]


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


def test_two_edits_at_once_are_made_one_after_the_other(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in two terminals: else the later one takes the other's back."""
    seen, locking, may_go_on = list[str](), threading.Event(), threading.Event()

    def lock(_: Project) -> None:
        seen.append(file.read_text())
        locking.set()
        assert may_go_on.wait(30)

    monkeypatch.setattr(Project, "lock", lock)
    first, second = (threading.Thread(target=editing.add, args=(name, file)) for name in ("b", "c"))
    first.start()
    assert locking.wait(30)
    second.start()
    second.join(0.1)
    assert seen == [IMAGE.replace('"a"', '"a", "b"')] == [file.read_text()]
    may_go_on.set()
    first.join()
    second.join()
    assert seen[1] == IMAGE.replace('"a"', '"a", "b", "c"') == file.read_text()


@pytest.mark.parametrize(
    ("call", "added", "removed"),
    [
        (".uv_sync()", "uv.lock: uv add 'b>=2' c", "uv.lock: uv remove b"),
        (
            '.pip_install("-r requirements.txt")',
            "requirements.txt: add b>=2, c there",
            "requirements.txt: remove b there",
        ),
        (".pip_install_from_pyproject()", "pyproject.toml: add b>=2, c there", "pyproject.toml: remove b there"),
    ],
)
def test_packages_of_another_file_are_added_there(call: str, added: str, removed: str, file: Path) -> None:
    file.write_text(f'import klock as kt\n\nimage = kt.Image().from_docker("x"){call}\n')
    for words, expected, edit in ((["b>=2", "c"], added, editing.add), (["b"], removed, editing.remove)):
        with pytest.raises(KlockError) as caught:
            edit(words, file)
        assert caught.value.hint == f"the image takes its packages from {expected}; then run `klock lock`"


HANGS = """
import sys
from klock.api import Project
from klock.commands import main

def lock(_):
    print("locking", flush=True)
    sys.stdin.read()

Project.lock = lock
main(["add", "b"])
"""


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_from_outside_takes_the_edit_back(number: signal.Signals, file: Path) -> None:
    """A pipeline that is cancelled, a terminal that is closed."""
    pipe = subprocess.PIPE
    environment = {**os.environ, "KLOCK_CACHE_DIR": str(file.parent / "store"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HANGS]
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=file.parent, env=environment, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "locking\n"
        assert file.read_text() != IMAGE
        running.send_signal(number)
        _, said = running.communicate()
    assert (running.returncode, file.read_text()) == (128 + number, IMAGE)
    assert said.strip() == "interrupted: the lockfile and the environment are as they were"
