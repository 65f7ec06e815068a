from __future__ import annotations

import os
from pathlib import Path

import pytest

from klock.errors import EngineError, FetchError, StoreError
from klock.forks import Tally
from klock.progress import QUIET
from klock.store import Store, name_of_process
from klock.temporary import temporary_folder
from klock.workshop.base_layers import unpack_layers
from klock.workshop.protocol import BaseLayer
from klock.workshop.sandbox import SandboxWorkshop
from klock.workshop.scratch import find_holder, held, holding_mounts, remove_stale, remove_trees, scratch_folder
from klock.workshop.trees import Trees


@pytest.mark.parametrize("tally", [None, Tally("paths")], ids=["unseen", "counted"])
def test_a_removal_does_not_follow_symlinks(tmp_path: Path, tally: Tally | None) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    (theirs / "in").mkdir(parents=True)
    (theirs / "in/file").touch()
    (ours / "in").mkdir(parents=True)
    (ours / "in/link").symlink_to(theirs)
    (tmp_path / "link").symlink_to(theirs)
    remove_trees([ours, tmp_path / "link", tmp_path / "none"], tally)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "in", "theirs"]
    if tally is not None:
        assert tally() == "2 of 2 paths"


def test_what_another_process_takes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    files = [store.temporary_path() for _ in range(3)]
    for file in files:
        file.touch()
        os.utime(file, (0, 0))
    look = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        """As if the maker of the first file were done with it just now."""
        if path == files[0]:
            path.unlink(missing_ok=True)
        return look(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    remove_stale(store)
    assert not any(file.exists() for file in files)
    remove_trees([Trees(store).put_aside(tmp_path / "trees/tree-gone")])


def test_what_a_killed_build_or_recorder_left_in_the_store_goes_with_the_next_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    child = os.fork()
    if child == 0:
        with temporary_folder("recorder", within=store.tmp) as folder:
            (folder / "answer").write_text("hunter2")
            os._exit(0)
    os.waitpid(child, 0)
    assert [path.name for path in store.tmp.glob("*/w/*")] == ["answer"]
    with temporary_folder("build", within=store.tmp) as used, scratch_folder(store) as scratch:
        assert sorted(store.tmp.iterdir()) == sorted([used.parent, scratch])


def test_who_has_a_layer_mounted_is_found(tmp_path: Path) -> None:
    assert find_holder(tmp_path) is None
    with holding_mounts(tmp_path):
        assert find_holder(tmp_path) == os.getpid()
    assert find_holder(tmp_path) is None
    (tmp_path / f"mounted-by-{name_of_process(os.getpid())}").write_text("1")
    assert find_holder(tmp_path) is None, "the number of a process that is gone is another one's"
    assert not list(tmp_path.iterdir())


def test_who_has_a_layer_mounted_in_another_container_is_told(tmp_path: Path) -> None:
    """Two mounts of one writable layer: the kernel says that then everything may happen."""
    namespace, _, pid = name_of_process(os.getpid()).partition(".")
    note = tmp_path / f"mounted-by-{int(namespace) + 1}.{pid}"
    note.write_text("1")
    with held(tmp_path), pytest.raises(EngineError, match=r"^another container with the same store"):
        find_holder(tmp_path)
    assert note.exists()
    assert find_holder(tmp_path) is None, "it was killed"
    assert not note.exists()


def test_a_layer_that_claims_no_bytes_is_fetched_as_any_other(tmp_path: Path) -> None:
    """Manifests may say so, and its file is not there to be asked."""

    def fetch() -> None:
        raise FetchError("the registry has another one")

    layer = BaseLayer(path=tmp_path / "layer", media_type="tar", diff_id=f"sha256:{'0' * 64}", size=0)
    with pytest.raises(FetchError, match="another one"):
        SandboxWorkshop(Store(tmp_path / "store")).add_base(f"sha256:{'1' * 64}", [layer], fetch=fetch)


@pytest.mark.parametrize("size", [0, 1, 1 << 40])
def test_a_layer_that_is_gone_when_all_are_fetched_is_no_reason_to_wait(tmp_path: Path, size: int) -> None:
    layer = BaseLayer(path=tmp_path / "layer", media_type="tar", diff_id=f"sha256:{'0' * 64}", size=size)
    with pytest.raises(StoreError, match=r"^layer is no longer in the store$"):
        unpack_layers({tmp_path / "diff": layer}, fetch=lambda: None, progress=QUIET)
