"""Wheels and source distributions of strangers are read within bounds; one that is broken is named."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from klock.errors import FetchError, KlockError
from klock.lockfile.model import InstallFolders, WheelArtifact
from klock.packages.build_system import (
    build_system_of_archive,
    read_build_system,
    read_static_metadata,
    tells_what_it_requires,
)
from klock.packages.scheme import Scheme
from klock.packages.wheel_layout import lay_out
from klock.packages.wheels import read_wheel_metadata

METADATA = b"Metadata-Version: 2.1\nName: a\nVersion: 1.0\nRequires-Dist: b>=1\n"
FOLDERS = InstallFolders(purelib="/x", platlib="/x", scripts="/x", data="/x", headers="/x")
SCHEME = Scheme(python="/usr/bin/python3", folders=FOLDERS, links={})
ARTIFACT = WheelArtifact(name="a-1.0-py3-none-any.whl", url="", size=0, sha256="0" * 64)


def wheel(
    metadata: bytes = METADATA, *, compression: int = zipfile.ZIP_DEFLATED, record: bytes = b"", points: bytes = b""
) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        archive.writestr("a/__init__.py", b"x = 1\n" * 50)
        archive.writestr("a-1.0.dist-info/METADATA", metadata)
        archive.writestr("a-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("a-1.0.dist-info/entry_points.txt", points or b"[console_scripts]\na = a:main\n")
        archive.writestr("a-1.0.dist-info/RECORD", record or b"a/__init__.py,,\n")
    return raw.getvalue()


def read(content: bytes, tmp_path: Path) -> str:
    path = tmp_path / "blob"
    path.write_bytes(content)
    with contextlib.suppress(FetchError):
        lay_out(path, ARTIFACT, SCHEME, root=None)
    return read_wheel_metadata(path, "a-1.0-py3-none-any.whl").name


def test_a_wheel(tmp_path: Path) -> None:
    assert read(wheel(), tmp_path) == "a"


BROKEN = {
    "no archive": b"PK",
    "cut off": wheel()[:-30],
    "a name that is not ASCII": wheel(b"Name: \xff\nVersion: 1\n"),
    "a name that is not a name": wheel(b"Name: ../../x\nVersion: 1\n"),
    "a name over two lines": wheel(b"Name: a\n b\nVersion: 1\n"),
    "a version that is not a version": wheel(b"Name: a\nVersion: 1/2\n"),
    "no text at all": wheel(bytes(range(256)) * 10),
    "broken DEFLATE": wheel().replace(METADATA[:1], METADATA[:1]).replace(b"\x0b\x49", b"\xff\xff"),
    "an unknown compression": wheel(compression=zipfile.ZIP_STORED).replace(b"\0\0\0\0a-1.0", b"\0\0\0\0b-1.0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_wheel_is_named_or_read(case: str, tmp_path: Path) -> None:
    try:
        assert read(BROKEN[case], tmp_path) == "a"
    except FetchError as error:
        assert error.message.startswith("a-1.0-py3-none-any.whl")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_wheel_with_any_bytes_changed_is_named_or_read(compression: int, tmp_path: Path) -> None:
    whole, random = wheel(compression=compression), Random(1)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            content[random.randrange(len(content))] = random.randrange(256)
        try:
            read(bytes(content), tmp_path)
        except FetchError as error:
            assert error.message.startswith("a-1.0-py3-none-any.whl")


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
    finally:
        tracemalloc.stop()


BOMB = b"Name: a\nVersion: 1\n\n" + bytes(96 << 20)


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    return {
        "METADATA": wheel(BOMB),
        "RECORD": wheel(record=b"a/__init__.py,,\n" + b"\n" * (96 << 20)),
        "entry_points.txt": wheel(points=b"[console_scripts]\n" + b"\n" * (96 << 20)),
    }


@pytest.mark.parametrize("name", ["METADATA", "RECORD", "entry_points.txt"])
def test_a_bomb_takes_little_memory(name: str, bombs: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(bombs[name])
    assert path.stat().st_size < 1_000_000
    with little_memory():
        with pytest.raises(FetchError, match=f"{name} is larger than 32 MiB"):
            lay_out(path, ARTIFACT, SCHEME, root=None)
        if name == "METADATA":
            with pytest.raises(FetchError, match="METADATA is larger than 32 MiB"):
                read_wheel_metadata(path, "a-1.0-py3-none-any.whl")


def sdist(pyproject: bytes, *, header: bytes = b"") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a-1.0/pyproject.toml")
        member.size = len(pyproject)
        if header:
            member.pax_headers = {"comment": header.decode()}
        archive.addfile(member, io.BytesIO(pyproject))
    return raw.getvalue()


SDISTS: dict[str, Callable[[], bytes]] = {
    "no archive": lambda: b"no",
    "cut off": lambda: sdist(b"[project]\nname = 'a'\n" * 1000)[:-20],
    "a bomb": lambda: sdist(bytes(64 << 20)),
    "a header that is a bomb": lambda: sdist(b"", header=b"x" * (64 << 20)),
    "no TOML": lambda: sdist(b"\xff"),
    "nested TOML": lambda: sdist(b"a = " + b"[" * 2000),
    "odd types": lambda: sdist(b"build-system = [1]"),
    "odd types of requirements": lambda: sdist(b"[build-system]\nrequires = {a = 1}"),
}


@pytest.mark.parametrize("case", SDISTS)
def test_a_broken_source_distribution_is_named(case: str, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(SDISTS[case]())
    with little_memory(), pytest.raises(KlockError, match=r"a-1\.0\.tar\.gz"):
        build_system_of_archive(tmp_path / "blob", "a-1.0.tar.gz")


@pytest.mark.parametrize(
    "pyproject",
    [
        "[project]\nname = 'a'\ndynamic = 1",
        "[project]\nname = 'a'\ndependencies = 'b'",
        "[project]\nname = 'a'\noptional-dependencies = [1]",
        "[build-system]\nrequires = ['a']\nbackend-path = [1]",
    ],
)
def test_a_project_of_odd_types(pyproject: str) -> None:
    with pytest.raises(KlockError, match="x: "):
        read_static_metadata(pyproject.encode(), where="x")
        read_build_system(pyproject.encode(), where="x")


@pytest.mark.parametrize(
    ("pyproject", "about", "tells"),
    [
        (b"[project]\nname = 'p'\nversion = '1'\n", b"", True),
        (b"", b"Metadata-Version: 2.2\n", True),
        (b"", b"Metadata-Version: 2.10\n", True),
        (b"", b"Metadata-Version: 2.1\n", False),
        (b"", b"Metadata-Version: 2.2\nDynamic: Requires-Dist\n", False),
        (b"", b"Metadata-Version: " + b"9" * 5000 + b".0\n", False),
        (b"", b"Metadata-Version: \xff\n", False),
        # Backends build these all the same.
        (b"[project]\nname = 'p'\nversion = '1'\ndependencies = 'x'\n", b"", False),
        (b"[project]\nname = 'p'\nversion = '1'\noptional-dependencies = 3\n", b"", False),
        (b"[project\n", b"", False),
        (b"\xff", b"", False),
        (b"x" * (5 << 20), b"", False),
    ],
)
def test_whether_a_source_distribution_tells_what_it_requires(
    pyproject: bytes, about: bytes, tells: bool, tmp_path: Path
) -> None:
    path = tmp_path / "p-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("pyproject.toml", pyproject), ("PKG-INFO", about)):
            member = tarfile.TarInfo(f"p-1/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert tells_what_it_requires(path, path.name) is tells
