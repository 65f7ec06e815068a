"""The digests of a tree's files: the same whoever computes them, one process or several."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from klock.layers import scan


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
