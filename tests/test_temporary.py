"""Nothing stays in `$TMPDIR` for long after klock was killed, and nobody else's folder is touched."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from klock.temporary import make_private, remove_abandoned_folders, temporary_folder
from tests.shared_folder import share


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def names(place: Path) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in place.iterdir())


def test_a_folder_is_empty_private_and_gone_at_the_end(place: Path) -> None:
    with temporary_folder("probe") as folder:
        assert list(folder.iterdir()) == [] and folder.stat().st_mode & 0o777 == 0o700
        assert names(place) == ["klock-probe"]
        (folder / "x").write_text("x")
        remove_abandoned_folders()
        assert (folder / "x").exists()
    assert names(place) == []


def test_nothing_is_handed_on_from_a_folder_that_many_share(place: Path) -> None:
    share(place)
    (place / "theirs").mkdir()
    assert os.listxattr(place / "theirs"), "this file system hands lists on"
    make_private(place / "ours")
    with temporary_folder("build") as work:
        for above in (place / "ours", work):
            (above / "folder").mkdir(mode=0o755)
            (above / "folder/file").touch(mode=0o644)
            for path in (above, above / "folder", above / "folder/file"):
                status = path.stat()
                assert (status.st_gid, status.st_mode & 0o7000, os.listxattr(path)) == (os.getegid(), 0, []), path
            assert above.stat().st_mode & 0o777 == 0o700


def test_what_a_killed_process_left_is_removed_by_the_next(place: Path) -> None:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with temporary_folder("resolve") as folder:
            (folder / "netrc").write_text("password hunter2")
            os.write(tell, b"x")
            signal.pause()
        os._exit(0)
    os.read(ready, 1)
    remove_abandoned_folders()
    assert names(place) == ["klock-resolve"], "it is still used"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert names(place) == ["klock-resolve"]
    with temporary_folder("probe"):
        assert names(place) == ["klock-probe"]


def test_what_a_killed_process_left_in_memory_is_removed_by_the_next(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's secrets are there."""
    memory = place / "memory"
    memory.mkdir()
    monkeypatch.setattr("klock.temporary.MEMORY", memory)
    child = os.fork()
    if child == 0:
        with temporary_folder("secret", within=memory) as folder:
            (folder / "secret").write_text("hunter2")
            os._exit(0)
    os.waitpid(child, 0)
    assert names(memory) == ["klock-secret"]
    with temporary_folder("probe"):
        assert names(memory) == []


def test_a_removal_that_is_cut_short_is_ended_by_the_next(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.fork()
    if child == 0:
        with temporary_folder("secret") as folder:
            for name in "abc":
                (folder / name).write_text("hunter2")
            unlink = os.unlink

            def last(path: str, *, dir_fd: int | None = None) -> None:
                unlink(path, dir_fd=dir_fd)
                os._exit(0)

            os.unlink = last  # type: ignore[assignment]
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert names(place) == ["klock-secret"]
    remove_abandoned_folders()
    assert names(place) == []


def test_a_child_keeps_its_parents_folder(place: Path) -> None:
    with temporary_folder("build") as folder:
        end, wait = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(wait)
            os.read(end, 1)
            os._exit(0)
        hold = folder.parent
        remove_abandoned_folders()
        assert hold.exists()
    os.close(wait)
    os.waitpid(child, 0)


def test_others_stay(place: Path) -> None:
    (place / "klock-mine").mkdir()
    (place / "klock-file").write_text("")
    (place / "other").mkdir()
    (place / "klock-link").symlink_to(place / "other")
    (place / "other/.klock-holds-this").write_text("")
    remove_abandoned_folders()
    assert len(list(place.iterdir())) == 4
