"""The digests of a tree's files: the same whoever computes them, one process or several."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from klock.layers import scan
from klock.layers.manifest import Entry, Kind


@pytest.mark.parametrize("many", [0, 10**6], ids=["several", "one"])
@pytest.mark.parametrize("buffer", [16, 1 << 18])
def test_each_file_has_its_own_digest(many: int, buffer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of all sizes follow each other through one buffer: nothing of a longer one is left in it."""
    monkeypatch.setattr(scan, "_MANY", many)
    monkeypatch.setattr(scan, "_BUFFER", buffer)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    contents = [b"x" * size for size in (40, 0, 3, 16, 17, 32, 1)]
    files = []
    for number, content in enumerate(contents):
        path = tmp_path / str(number)
        path.write_bytes(content)
        files.append((str(path).encode(), len(content)))
    expected = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents]
    assert scan.digests_of_files(files) == expected


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that has each kind of thing, and names of all kinds."""
    root = tmp_path / "root"
    (root / "a/deep er").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o700)
    for name in (b"plain", b"a/comma,equals=back\\slash", b"a/deep er/new\nline", "a/ünï".encode(), b"a/\xff\xfe"):
        (root / os.fsdecode(name)).write_bytes(name * 9)
    (root / "plain").chmod(0o4755)
    (root / "a/large").write_bytes(b"x" * 300)
    (root / "link").symlink_to("a/deep er")
    os.link(root / "plain", root / "a/same")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "a/large", "user.of", b"one")
    os.setxattr(root / "a/deep er", "user.of", b"two")
    (root / "a/__pycache__").mkdir()
    (root / "tmp").mkdir()
    (root / "tmp/left out").touch()
    return root


@pytest.mark.parametrize("many", [0, 10**6], ids=["several processes", "one"])
@pytest.mark.parametrize("large", [0, 200, 10**6])
def test_the_manifest_of_a_tree_has_the_entry_of_each_path(
    many: int, large: int, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_WORTH_SHARING", many)
    monkeypatch.setattr(scan, "_LARGE", large)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    root = os.fsencode(tree)
    expected: dict[str, Entry] = {}
    for found in (Path(folder, name) for folder, folders, files in os.walk(tree) for name in folders + files):
        is_file = found.is_file() and not found.is_symlink()
        digest = f"sha256:{hashlib.sha256(found.read_bytes()).hexdigest()}" if is_file else None
        path = str(found.relative_to(tree))
        entry = scan.entry_of(os.fsencode(found), path, found.lstat(), digest=digest)
        assert entry is not None
        if path != "tmp/left out":
            expected[path] = entry
    manifest = scan.manifest_of_tree(root)
    assert dict(manifest) == expected
    assert {entry.kind for entry in expected.values()} >= {Kind.FILE, Kind.FOLDER, Kind.SYMLINK, Kind.FIFO}
    assert expected["a/large"].xattrs == (("user.of", b"one".hex()),)
    again = type(manifest)(expected.values())
    assert manifest.to_bytes() == again.to_bytes()
