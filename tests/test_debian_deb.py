"""What klock reads of a .deb itself: where its files are and what it needs; whatever else it is, an error names it."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klock.debian.apt_root import known_names, required_names
from klock.debian.deb import Deb, read_deb
from klock.debian.tools import tools_among
from klock.errors import FetchError, ImageError
from tests.debs import COMPRESSED, ar, control_archive, deb, member, package, tar

FIELDS = {"Package": "x", "Version": "1", "Architecture": "all"}
BINARY = ("debian-binary", b"2.0\n")
CONTROL = ("control.tar", control_archive(FIELDS))
DATA = ("data.tar", tar())


def read(content: bytes, folder: Path, **named: str) -> Deb:
    path = folder / "x.deb"
    path.write_bytes(content)
    return read_deb(path, package(content, **named))


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_the_files_are_where_it_says(suffix: str, tmp_path: Path) -> None:
    content = deb(FIELDS, [("./usr/bin/x", b"#!/bin/sh\n")], suffix=suffix)
    files = read(content, tmp_path).files
    assert content[files.offset : files.offset + files.size] == COMPRESSED[suffix](tar(("./usr/bin/x", b"#!/bin/sh\n")))
    assert files.name == "the package x 1"


def test_what_it_needs(tmp_path: Path) -> None:
    fields = {
        **FIELDS,
        "Essential": "yes",
        "priority": "required",
        "Pre-Depends": "libc6 (>= 2.36), dpkg:any",
        "Depends": "a | b (<< 2) [amd64],\n c <!nocheck>,",
        "Provides": "virtual (= 1), other",
        "Description": "text\n Depends: not-this\n .\n more",
    }
    found = read(deb(fields), tmp_path)
    assert (found.is_essential, found.is_required) == (True, True)
    assert found.needs == (("libc6",), ("dpkg",), ("a", "b"), ("c",))
    assert found.provides == ("virtual", "other")


def test_dpkg_makes_what_klock_reads(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    folder = tmp_path / "x"
    (folder / "DEBIAN").mkdir(parents=True)
    fields = {**FIELDS, "Maintainer": "N <n@example.org>", "Depends": "a | b", "Description": "d"}
    (folder / "DEBIAN/control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    for option in ("-Zxz", "-Zgzip", "-Zzstd", "-Znone"):
        subprocess.run(["dpkg-deb", "-b", option, folder, tmp_path / "made.deb"], check=True, stdout=subprocess.DEVNULL)
        assert read((tmp_path / "made.deb").read_bytes(), tmp_path).needs == (("a", "b"),)


LINK = tarfile.TarInfo("./control")
LINK.type, LINK.linkname = tarfile.SYMTYPE, "/etc/passwd"


def greedy() -> bytes:
    """Compressed with xz by somebody who asks for a dictionary of 4 GiB (the .xz format, 3.1 and 5.3.1)."""
    content = bytearray(lzma.compress(CONTROL[1]))
    end = 12 + (content[12] + 1) * 4
    assert content[14:16] == b"\x21\x01"
    content[16] = 40
    content[end - 4 : end] = zlib.crc32(content[12 : end - 4]).to_bytes(4, "little")
    return bytes(content)


def header(kind: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type = kind
    return info.tobuf(tarfile.USTAR_FORMAT)


BROKEN = {
    "no archive": (b"hello", "it is not an ar archive"),
    "nothing": (b"", "it is not an ar archive"),
    "no members": (ar(), "its members are "),
    "the end of a header is missing": (ar(BINARY)[:-8], "there is no member at byte 8"),
    "the content ends early": (ar(BINARY, CONTROL)[:-100], "the member 'control.tar' ends early"),
    "a size beyond the file": (
        b"!<arch>\n" + member("debian-binary", b"2.0\n", size="9999999999"),
        "the member 'debian-binary' ends early",
    ),
    "a size below zero": (b"!<arch>\n" + member("debian-binary", b"2.0\n", size="-4"), "'debian-binary' has no size"),
    "a size that is a word": (b"!<arch>\n" + member("debian-binary", b"2.0\n", size="4e2"), "has no size"),
    "two archives of files": (
        ar(BINARY, CONTROL, DATA, DATA),
        "its members are 'debian-binary', 'control.tar', 'data.tar', 'data.tar'",
    ),
    "the files first": (ar(BINARY, DATA, CONTROL), "its members are 'debian-binary', 'data.tar', 'control.tar'"),
    "a member in between": (ar(BINARY, ("evil", b""), CONTROL, DATA), "its members are 'debian-binary', 'evil'"),
    "a compression that nobody knows": (
        ar(BINARY, CONTROL, ("data.tar.lz9", b"")),
        "klock cannot read its 'data.tar.lz9'",
    ),
    "no tar in control": (ar(BINARY, ("control.tar", b"\1" * 512), DATA), "is a broken .deb"),
    "no control file": (ar(BINARY, ("control.tar", tar(("./postinst", b"x"))), DATA), "it has 0 control files"),
    "two control files": (
        ar(BINARY, ("control.tar", tar(("./control", b"a: b\n"), ("control", b"a: b\n"))), DATA),
        "it has 2 control files",
    ),
    "a control file that leads elsewhere": (
        ar(BINARY, ("control.tar", tar((LINK, b""))), DATA),
        "its control file is not valid",
    ),
    "a control file of megabytes": (
        ar(BINARY, ("control.tar.xz", lzma.compress(tar(("./control", b"A" * (2 << 20))))), DATA),
        "its control file is not valid",
    ),
    "a control archive that is a bomb": (
        ar(BINARY, ("control.tar.xz", lzma.compress(bytes(64 << 20), preset=0)), DATA),
        "its control archive unpacks to too much",
    ),
    "control archive: compressed data ends early": (
        ar(BINARY, ("control.tar.xz", lzma.compress(CONTROL[1])[:-20]), DATA),
        "its compressed data ends early",
    ),
    "a dictionary of gigabytes": (ar(BINARY, ("control.tar.xz", greedy()), DATA), "Memory usage limit"),
    "a tower of headers": (ar(BINARY, ("control.tar", header(tarfile.XHDTYPE) * 3000), DATA), "recursion"),
    "another package": (deb({**FIELDS, "Package": "y"}), "its control file says that it is y 1 all"),
    "another version": (deb({**FIELDS, "Version": "2"}), "its control file says that it is x 2 all"),
    "no name": (deb({}), "its control file says that it is"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_one_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as error:
        read(content, tmp_path)
    assert error.value.message.startswith(("the package x 1: ", "the package x 1 is a broken "))
    assert message in error.value.message


WHOLE = deb(FIELDS, [("./usr/bin/x", b"x" * 300)])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(WHOLE)))
def test_any_other_bytes_are_read_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    content = bytearray(WHOLE)
    for position, byte in changes:
        content[position] = byte
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = read(bytes(content[: length or len(content)]), Path(folder))
        except FetchError as error:
            assert error.message.startswith(("the package x 1: ", "the package x 1 is a broken "))
        else:
            assert found.files.offset + found.files.size <= found.files.path.stat().st_size


# -- the tools


def some(folder: Path, *packages: dict[str, str]) -> list[Deb]:
    found = []
    for number, fields in enumerate(packages):
        name = fields["Package"]
        content = deb({"Version": "1", "Architecture": "all", **fields})
        (folder / f"{number}.deb").write_bytes(content)
        found.append(read_deb(folder / f"{number}.deb", package(content, name=name)))
    return found


def names(debs: tuple[Deb, ...]) -> list[str]:
    return [found.package.name for found in debs]


DPKG = {"Package": "dpkg", "Essential": "yes", "Pre-Depends": "libc6"}
APT = {"Package": "apt", "Depends": "gpgv | gpgv2 | gpgv1, libapt"}
REST = (
    {"Package": "libc6"},
    {"Package": "gpgv2"},
    {"Package": "sqv", "Provides": "gpgv1"},
    {"Package": "libapt", "Depends": "absent | libc6"},
    {"Package": "login", "Priority": "required"},
    {"Package": "base-files", "Essential": "yes", "Pre-Depends": "awk"},
    {"Package": "base-passwd", "Essential": "yes"},
    {"Package": "mawk", "Provides": "awk", "Depends": "base-files"},
    {"Package": "python3", "Depends": "libc6, libpython"},
    {"Package": "libpython"},
)


def test_the_tools_are_what_installs_and_what_that_needs(tmp_path: Path) -> None:
    debs = some(tmp_path, *REST, APT, DPKG)
    expected = ["base-passwd", "base-files", "apt", "dpkg", "gpgv2", "libapt", "libc6", "login", "mawk", "sqv"]
    assert names(tools_among(debs)) == expected
    assert names(tools_among(debs[::-1])) == expected, "their order means nothing"


def test_without_apt_or_dpkg_there_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be made without dpkg and apt"):
        tools_among(some(tmp_path, *REST))


def test_every_tree_has_what_the_archive_requires(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(
        "Package: a\nEssential: yes\nDescription: Priority: required\n\n"
        "Package: b\nPriority: required\n\nPackage: c\nPriority: optional\nEssential: no\n\n"
        "Package: d\nDescription: x\n Priority: required\n"
    )
    (tmp_path / "b").write_text("Package: c\nPriority: required\n")
    assert required_names([tmp_path / "a"]) == {"a", "b"}
    assert required_names([tmp_path / "a", tmp_path / "b"]) == {"a", "b", "c"}


def test_a_package_is_known_by_its_name_and_by_what_it_provides(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("Package: a\nDescription: Package: x\nProvides: b (= 1:2), c:any,\n d\n\nPackage: a\n")
    (tmp_path / "b").write_text("Package: e\n")
    assert known_names([tmp_path / "a", tmp_path / "b"]) == {"a", "b", "c", "e"}
