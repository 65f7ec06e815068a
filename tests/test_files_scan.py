"""Local files become entries that two checkouts share, and whatever a lock cannot hold is an error."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import ImageError
from klock.files.digest_cache import DigestCache
from klock.files.scan import scan, tree_digest
from klock.lockfile.model import FIRST_LINE, FileEntry
from klock.store import Store

WHERE = "step 2 (kimage.py:7)"


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def scanned(source: Path, digests: DigestCache | None = None) -> tuple[FileEntry, ...]:
    return scan(source, root=source.parent, contents=False, filter_options=None, where=WHERE, digests=digests)


def test_a_folder_is_its_sorted_entries(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "empty").mkdir(parents=True)
    (source / "a-b").mkdir()
    (source / "a-b/x").write_bytes(b"12345")
    (source / "a b ü.txt").write_bytes(b"")
    (source / "run").write_bytes(b"#!/bin/sh\n")
    (source / "run").chmod(0o700)
    (source / "link").symlink_to("../elsewhere/ü")
    (source / "folder-link").symlink_to("a-b")
    assert scanned(source) == (
        FileEntry(path="a b ü.txt", mode=0o644, size=0, digest=sha256(b"")),
        FileEntry(path="a-b", mode=0o755),
        FileEntry(path="a-b/x", mode=0o644, size=5, digest=sha256(b"12345")),
        FileEntry(path="empty", mode=0o755),
        FileEntry(path="folder-link", mode=0o777, target="a-b"),
        FileEntry(path="link", mode=0o777, target="../elsewhere/ü"),
        FileEntry(path="run", mode=0o755, size=10, digest=sha256(b"#!/bin/sh\n")),
    )


def test_a_file_is_one_entry_without_a_path(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert scanned(tmp_path / "a") == (FileEntry(path="", mode=0o644, size=1, digest=sha256(b"x")),)


def test_an_empty_folder_has_no_entries(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    assert scanned(tmp_path / "src") == ()


def test_the_source_itself_is_followed_where_it_is_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1/x").write_bytes(b"x")
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "file").symlink_to("v1/x")
    assert scanned(tmp_path / "current") == scanned(tmp_path / "v1")
    assert scanned(tmp_path / "file")[0].digest == sha256(b"x")


@pytest.mark.parametrize("mask", [0o000, 0o027, 0o077])
def test_the_umask_of_a_checkout_does_not_show(tmp_path: Path, mask: int) -> None:
    script = "mkdir -p src/sub; echo hi > src/sub/a; echo hi > src/run; chmod +x src/run"
    before = os.umask(mask)
    try:
        subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    finally:
        os.umask(before)
    assert [(e.path, oct(e.mode)) for e in scanned(tmp_path / "src")] == [
        ("run", "0o755"),
        ("sub", "0o755"),
        ("sub/a", "0o644"),
    ]


def test_a_folder_deeper_than_python_recurses(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 100
    make = f"import os\nfor _ in range({depth}): os.mkdir('d'); os.chdir('d')"
    source = tmp_path / "s"
    source.mkdir()
    try:
        subprocess.run([sys.executable, "-c", make], cwd=source, check=True)
        assert scanned(source)[-1].path == "/".join("d" * depth)
    finally:
        subprocess.run(["rm", "-rf", source], check=True)  # shutil.rmtree, and so pytest, recurses


# -- the digest of a tree

ENTRIES = st.lists(
    st.builds(
        FileEntry,
        path=st.text(min_size=1, max_size=5),
        mode=st.sampled_from([0o644, 0o755]),
        size=st.integers(0, 9),
        digest=st.none() | st.binary(max_size=2).map(sha256),
        target=st.none() | st.text(max_size=3),
    ),
    unique_by=lambda entry: entry.path,
    max_size=6,
)


@given(ENTRIES, st.randoms())
def test_the_digest_of_a_tree_does_not_depend_on_the_order(entries: list[FileEntry], random: Random) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert tree_digest(shuffled) == tree_digest(entries)


@given(ENTRIES, ENTRIES)
def test_trees_with_one_digest_are_equal(one: list[FileEntry], other: list[FileEntry]) -> None:
    assert (tree_digest(one) == tree_digest(other)) == (set(one) == set(other))


# -- what a lock cannot hold


def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        scanned(tmp_path / "none")
    assert caught.value.message == f"{WHERE}: no such file or folder: {tmp_path}/none"
    assert caught.value.hint == "check the path: relative sources start in the folder of the image file"


def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").mkdir()
    monkeypatch.chdir(tmp_path / "s")  # a socket's path is at most 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        with pytest.raises(ImageError) as caught:
            scanned(tmp_path / "s")
    assert caught.value.message == f"{WHERE}: {tmp_path}/s/sock is a socket, which cannot be locked"
    assert caught.value.hint == "leave it out: filter_options=\"--exclude='sock'\""
    assert scan(tmp_path / "s", root=tmp_path, contents=False, filter_options="--exclude='sock'", where=WHERE) == ()


def test_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="pipe is a fifo, which cannot be locked"):
        scanned(tmp_path)


def test_a_device() -> None:
    with pytest.raises(ImageError, match="/dev/null is a device, which cannot be locked"):
        scanned(Path("/dev/null"))


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).touch()
    with pytest.raises(ImageError, match=r"the name '.*\\udcff' is not UTF-8, and the lockfile holds only UTF-8"):
        scanned(tmp_path)


def test_a_symlink_whose_text_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(os.fsdecode(b"\xff"))
    with pytest.raises(ImageError, match=r"the target of the symlink '.*link' is not UTF-8"):
        scanned(tmp_path)


def test_a_file_that_is_written_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "growing"
    file.write_bytes(bytes(32 << 20))
    stop = threading.Event()

    def grow() -> None:
        with file.open("ab", buffering=0) as stream:
            while not stop.is_set():
                stream.write(b"x")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(ImageError, match="growing changed while it was read"):
            for _ in range(50):
                scanned(file)
    finally:
        stop.set()
        writer.join()


# -- reading only what changed


def later() -> int:
    """A clock by which every file is old. (A file's ctime cannot be set, so the tests set the clock.)"""
    return time.time_ns() + 10 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/a").write_bytes(b"aaaa")
    (tmp_path / "src/b").write_bytes(b"bbbb")
    return tmp_path / "src"


def cache_of(store: Store) -> DigestCache:
    return DigestCache(store=store, key="tree", clock=later)


def remember(store: Store, source: Path) -> None:
    cache = cache_of(store)
    scanned(source, cache)
    cache.save()


def recorded(store: Store) -> dict[str, Any]:
    record = store.read_record("file-digests", "tree")
    assert isinstance(record, dict)
    return record


def test_an_unchanged_file_is_not_read_again(store: Store, source: Path) -> None:
    remember(store, source)
    record = recorded(store)
    assert sorted(record) == ["b", "sub/a"]
    never_the_content = sha256(b"what only the record says")
    record["b"][5] = never_the_content
    store.write_record("file-digests", "tree", record)
    digests = {entry.path: entry.digest for entry in scanned(source, cache_of(store))}
    assert digests == {"b": never_the_content, "sub": None, "sub/a": sha256(b"aaaa")}


def test_case_52_an_edit_that_keeps_size_and_mtime_is_seen(store: Store, source: Path) -> None:
    remember(store, source)
    before = (source / "b").stat()
    (source / "b").write_bytes(b"BBBB")
    os.utime(source / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (source / "b").stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
    assert scanned(source, cache_of(store))[0].digest == sha256(b"BBBB")


def test_a_file_put_in_anothers_place_is_seen(store: Store, source: Path) -> None:
    remember(store, source)
    (source / "new").write_bytes(b"BBBB")
    (source / "new").replace(source / "b")
    assert scanned(source, cache_of(store))[0].digest == sha256(b"BBBB")


def test_a_changed_mode_is_seen_without_a_record_of_it(store: Store, source: Path) -> None:
    remember(store, source)
    (source / "b").chmod(0o755)
    assert scanned(source, cache_of(store))[0].mode == 0o755


def test_a_file_younger_than_the_clocks_tick_is_not_remembered(store: Store, source: Path) -> None:
    cache = DigestCache(store=store, key="tree", clock=lambda: (source / "b").stat().st_ctime_ns)
    scanned(source, cache)
    cache.save()
    assert store.read_record("file-digests", "tree") is None


def test_files_that_are_gone_are_forgotten(store: Store, source: Path) -> None:
    remember(store, source)
    (source / "b").unlink()
    remember(store, source)
    assert sorted(recorded(store)) == ["sub/a"]


@pytest.mark.parametrize("record", [[], "x", {"b": None}, {"b": [1, 2, 3, 4, 5, "sha256:x"]}, {"b": [1, 2]}, {"b": {}}])
def test_a_record_of_another_shape_is_as_good_as_none(store: Store, source: Path, record: object) -> None:
    store.write_record("file-digests", "tree", record)
    assert scanned(source, cache_of(store))[0].digest == sha256(b"bbbb")


def test_a_store_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()
    remember(Store(tmp_path / "file/store"), source)
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)


def test_lockfiles_of_klocks_are_left_out(tmp_path: Path) -> None:
    """Else an image that copies its own folder would be stale as soon as it is locked."""
    for name in ("kimage.lock", "kimage.gpu.lock", "sub/train.lock", ".kimage.lock.0123456789ab"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(FIRST_LINE + 'lock-version = "1.0"\n')
    (tmp_path / "uv.lock").write_text("version = 1\n")
    (tmp_path / "short.lock").write_text("#")
    (tmp_path / "folder.lock").mkdir()
    (tmp_path / "link.lock").symlink_to("kimage.lock")
    (tmp_path / "kimage.lock.txt").write_text(FIRST_LINE)
    kept = ["folder.lock", "kimage.lock.txt", "link.lock", "short.lock", "sub", "uv.lock"]
    assert paths(tmp_path) == kept
    assert paths(tmp_path, filter_options="--include=kimage.lock") == sorted([*kept, "kimage.lock"])


def paths(folder: Path, *, filter_options: str | None = None) -> list[str]:
    found = scan(folder, root=folder, contents=True, filter_options=filter_options, where="here")
    return [entry.path for entry in found]
