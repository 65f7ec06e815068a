"""The store's lock: whoever removes things waits for those who use them."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from klock.errors import StoreError
from klock.store import Store


def test_who_removes_waits_for_all_who_use_the_store(tmp_path: Path) -> None:
    store, waits, done = Store(tmp_path / "store"), threading.Event(), threading.Event()

    def remove() -> None:
        with Store(store.root).alone(waits.set):
            done.set()

    with store.in_use(), Store(store.root).in_use():
        remover = threading.Thread(target=remove)
        remover.start()
        assert waits.wait(30)
        assert not done.is_set()
    remover.join(30)
    assert done.is_set()


def test_who_uses_the_store_waits_for_who_removes(tmp_path: Path) -> None:
    store, used = Store(tmp_path / "store"), threading.Event()

    def use() -> None:
        with Store(store.root).in_use():
            used.set()

    with store.alone(lambda: None):
        user = threading.Thread(target=use)
        user.start()
        assert not used.wait(0.05)
    user.join(30)
    assert used.is_set()


def test_a_store_that_cannot_be_written_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file in place of the folder")
    with Store(tmp_path / "store").in_use():
        pass


def test_what_a_process_left_is_removed_beside_a_folder_of_an_earlier_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder, file = store.temporary_path(), store.temporary_path()
    folder.mkdir()
    file.touch()
    store.remove_temporary_files(of_process=os.getpid())
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == [folder.name]


def test_a_process_of_another_container_keeps_what_it_is_writing(tmp_path: Path) -> None:
    """Its process id may be that of one here: each container counts its own."""
    store = Store(tmp_path)
    namespace, _, rest = store.temporary_path().name.partition(".")
    theirs = store.tmp / f"{int(namespace) + 1}.{rest}"
    theirs.touch()
    store.remove_temporary_files(of_process=os.getpid())
    assert theirs.exists()


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        (errno.EACCES, "set KLOCK_CACHE_DIR to a folder that you may write to"),
        (errno.EROFS, "set KLOCK_CACHE_DIR to a folder that you may write to"),
        (errno.ENOSPC, "free some space, or set KLOCK_CACHE_DIR to a folder on another disk"),
    ],
)
def test_the_way_out_of_a_store_that_cannot_be_written_fits_the_reason(
    reason: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's store, as under `su`, has room enough."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError) as refused:
        Store(tmp_path / "store").add_bytes(b"x")
    assert refused.value.message == f"cannot write to the store at {tmp_path}/store: {os.strerror(reason)}"
    assert refused.value.hint == hint
