"""The folder an export makes: whole or not at all, and never in place of somebody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes
from klock.errors import HashMismatch, KlockError
from klock.export import ContextFile, write_context
from klock.pages.build_context import HEADER

TEXT = f"{HEADER} from here\nFROM scratch\n"


def test_it_has_the_modes_that_are_locked_whatever_the_umask(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(0o600)
    files = [
        ContextFile(path="a/b/run", mode=0o755, content=b"#!/bin/sh\n"),
        ContextFile(path="a/data", source=source, digest=digest_of_bytes(b"x")),
        ContextFile(path="a/link", target="b/run"),
        ContextFile(path="a/empty", mode=0o755),
    ]
    before = os.umask(0o077)
    try:
        write_context(tmp_path / "out", TEXT, files)
    finally:
        os.umask(before)
    found = {str(p.relative_to(tmp_path / "out")): oct(p.lstat().st_mode)[-3:] for p in (tmp_path / "out").rglob("*")}
    assert found == {
        "Dockerfile": "644",
        "a": "755",
        "a/b": "755",
        "a/b/run": "755",
        "a/data": "644",
        "a/link": "777",
        "a/empty": "755",
    }
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/a/link").readlink() == Path("b/run")


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_context(tmp_path / "out", TEXT, [ContextFile(path="step-01/old", content=b"")])
    write_context(tmp_path / "out", TEXT, [ContextFile(path="step-02/new", content=b"")])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Dockerfile", "step-02"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_changed_leaves_the_earlier_export_as_it_was(tmp_path: Path) -> None:
    write_context(tmp_path / "out", TEXT, [ContextFile(path="step-01/old", content=b"")])
    source = tmp_path / "source"
    source.write_bytes(b"changed")
    file = ContextFile(path="a", source=source, digest=digest_of_bytes(b"locked"))
    with pytest.raises(HashMismatch, match="source is not what was locked"):
        write_context(tmp_path / "out", TEXT, [file])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    assert (tmp_path / "out/step-01/old").exists()


@pytest.mark.parametrize("name", ["notes.txt", "Dockerfile"])
def test_somebody_elses_folder_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("FROM mine\n")
    with pytest.raises(KlockError, match="has files that klock did not export"):
        write_context(tmp_path, TEXT, [])
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["kimage.py", ".git/HEAD", "notes.txt"])
def test_what_lies_beside_an_earlier_export_is_kept(tmp_path: Path, name: str) -> None:
    write_context(tmp_path, TEXT, [])
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(KlockError, match=f"files that klock did not export, such as {name.partition('/')[0]}"):
        write_context(tmp_path, TEXT, [])
    assert (tmp_path / name).read_text() == "mine"


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        write_context(tmp_path / "link", TEXT, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/Dockerfile").exists()
