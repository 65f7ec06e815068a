"""Archives that ADD unpacks come from anywhere: what is wrong with one is told, and takes little memory."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from klock.layers.archive_files import BROKEN, is_archive, open_archive

ODD: dict[str, dict[str, str]] = {
    "a time that is none": {"mtime": "nan"},
    "a time without end": {"mtime": "inf"},
    "a time after all others": {"mtime": "1e300"},
    "an owner that nobody can be": {"uid": "9" * 20},
    "a name with a NUL": {"path": "a\0b"},
    "a map of holes that is none": {"GNU.sparse.map": "a,b", "GNU.sparse.size": "3"},
    "a size of holes that is none": {"GNU.sparse.size": "q"},
    "holes that are told in its content": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a"},
}


def archive(headers: dict[str, str]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as members:
        member = tarfile.TarInfo("file")
        member.size = 600
        member.pax_headers = headers
        members.addfile(member, io.BytesIO(b"zzz\n" * 150))
    return written.getvalue()


def unpacked(path: Path, folder: Path) -> None:
    with open(path, "rb") as file, open_archive(file, source=path.name) as members:
        members.extraction_filter = lambda member, _: member
        for member in members:
            members.extract(member, folder, numeric_owner=True)


@pytest.mark.parametrize("case", ODD)
def test_what_nothing_can_be_is_a_broken_archive(case: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    path.write_bytes(archive(ODD[case]))
    is_archive(path)  # either, but it says so
    try:
        unpacked(path, tmp_path)
    except BROKEN:
        return
    # Only root sees that nobody can be the owner.
    assert "owner" in case


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_header_without_end_takes_little_memory(compress: type[bytes], tmp_path: Path) -> None:
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 256 << 20
    path = tmp_path / "long.tar"
    path.write_bytes(compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(64 << 20)))
    tracemalloc.start()
    try:
        assert not is_archive(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_an_archive_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(archive({}))
    assert is_archive(path)
    path.write_bytes(b"text")
    assert not is_archive(path)
