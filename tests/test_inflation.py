"""ISA-L reads what zlib reads, and says of broken streams what zlib says."""

import gzip
import io
import random
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from klock.layers.inflation import ZipFile, opened_gzip

Outcome = bytes | type[Exception]


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    return str(request.param)


def contents(seed: int) -> bytes:
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(1, 9)) for _ in range(50)]
    return b"".join(chance.choice(words) for _ in range(chance.randrange(60_000)))


def of_member(archive: bytes, kind: type[zipfile.ZipFile]) -> Outcome:
    def read() -> bytes:
        with kind(io.BytesIO(archive)) as opened, opened.open("file") as member:
            return b"".join(iter(lambda: member.read(5_000), b""))

    return outcome(read)


def of_gzip(archive: bytes) -> Outcome:
    def read() -> bytes:
        with opened_gzip(io.BytesIO(archive)) as stream:
            return b"".join(iter(lambda: stream.read(5_000), b""))

    return outcome(read)


def outcome(read: Callable[[], bytes]) -> Outcome:
    try:
        return read()
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_compressed_comes_out(library: str, seed: int, tmp_path: Path) -> None:
    content = contents(seed)
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("file", content, zipfile.ZIP_DEFLATED, compresslevel=seed % 10)
        archive.writestr("stored", content)
    with ZipFile(tmp_path / "archive") as opened:
        assert (opened.read("file"), opened.read("stored")) == (content, content)
    first, second = content[: len(content) // 2], content[len(content) // 2 :]
    assert of_gzip(gzip.compress(first) + gzip.compress(second, seed % 10)) == content


@pytest.mark.parametrize("seed", range(60))
def test_broken_streams_are_refused_as_by_zlib(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    with zipfile.ZipFile(tmp_path / "archive", "w") as written:
        written.writestr("file", contents(seed) + b"end", zipfile.ZIP_DEFLATED)
    archive = bytearray((tmp_path / "archive").read_bytes())
    archive[chance.randrange(34, len(archive) - 80)] ^= 1 << chance.randrange(8)
    refused: tuple[Outcome, ...] = (zlib.error, zipfile.BadZipFile, EOFError)
    assert of_member(bytes(archive), ZipFile) in refused
    assert of_member(bytes(archive), zipfile.ZipFile) in refused


@pytest.mark.parametrize("seed", range(60))
def test_broken_gzip_files_are_refused_as_by_zlib(library: str, seed: int) -> None:
    chance = random.Random(seed)
    archive = bytearray(gzip.compress(contents(seed) + b"end", mtime=0))
    if seed % 3:
        archive[chance.randrange(10, len(archive))] ^= 1 << chance.randrange(8)
    else:
        del archive[chance.randrange(1, len(archive)) :]
    refused: tuple[Outcome, ...] = (zlib.error, gzip.BadGzipFile, EOFError)
    assert of_gzip(bytes(archive)) in refused


def test_isal_reads_members_where_it_is_installed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("file", b"content")
    with ZipFile(tmp_path / "archive") as archive, archive.open("file") as member:
        assert not isinstance(vars(member)["_decompressor"], type(zlib.decompressobj()))
