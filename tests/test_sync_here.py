"""What `klock sync --here` says when it is stopped: the container is not as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import klock.places.here.converging
from klock import lockfile
from klock.commands.session import Session
from klock.commands.sync import sync_environment
from klock.errors import KlockError
from klock.progress import Quiet
from klock.project import LoadedImage, Settings
from klock.store import Store
from tests.test_lockfile import SMALL


@pytest.fixture
def session(tmp_path: Path) -> Session:
    from klock.image.builder import Image

    file = tmp_path / "kimage.lock"
    lockfile.write(SMALL, file)
    return Session(
        loaded=LoadedImage(image=Image(), file=tmp_path / "kimage.py", name="image", root=tmp_path),
        settings=Settings(),
        lockfile=file,
        store=Store(tmp_path / "store"),
        progress=Quiet(),
        environ={},
        engine_name="here",
    )


def stopped_by(error: BaseException) -> Callable[..., None]:
    def converge(*_: object, **__: object) -> None:
        raise error

    return converge


def test_interrupted(session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(klock.places.here.converging, "converge", stopped_by(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as ended:
        sync_environment(session, SMALL, SMALL.targets[0])
    assert ended.value.code == 130
    assert "interrupted: this container may be between two steps" in capsys.readouterr().err


def test_a_full_disk(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(klock.places.here.converging, "converge", stopped_by(OSError(28, "No space left", "/srv/x")))
    with pytest.raises(KlockError, match=r"^/srv/x: No space left$") as error:
        sync_environment(session, SMALL, SMALL.targets[0])
    assert "between two steps" in (error.value.hint or "")
