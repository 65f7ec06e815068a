from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from klock.packages.build_script import prepare


def test_a_source_is_unpacked_alike_by_every_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 has a filter that changes modes, where none is named."""

    def refuse(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        raise AssertionError("the version of Python decides")

    monkeypatch.setattr(tarfile.TarFile, "extraction_filter", staticmethod(refuse), raising=False)
    with tarfile.open(tmp_path / "a-1.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("a-1/run")
        member.mode, member.uid, member.uname = 0o775, 5, "packer"
        archive.addfile(member, io.BytesIO())
    request = {"source": str(tmp_path / "a-1.tar.gz"), "build": str(tmp_path / "build"), "subdirectory": None}
    folder = Path(prepare(request))
    assert folder == tmp_path / "build/a-1"
    assert (folder / "run").stat().st_mode & 0o777 == 0o775
