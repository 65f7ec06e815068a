"""What is in a build of python-build-standalone, and what of it is corrected."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from klock.errors import FetchError
from klock.files.placed import PlacedFile
from klock.steps.python.contents import corrected, files_in, is_corrected

VARIABLES = "python/lib/python3.13/_sysconfigdata__linux_x86_64-linux-gnu.py"
PC = "python/lib/pkgconfig/python-3.13.pc"


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode, found.uid = kind, link, mode, 1000
    return found


def read(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> list[PlacedFile]:
    with tarfile.open(folder / "x.tar.gz", "w:gz") as tar:
        for each, content in members:
            each.size = len(content)
            tar.addfile(each, io.BytesIO(content))
    (folder / "files").mkdir()
    return list(files_in(folder / "x.tar.gz", folder / "files", name="https://h/x.tar.gz"))


def test_an_archive_as_it_is_unpacked(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        (member("./python/bin/python3.13", mode=0o755), b"p"),
        (member("python/bin/python3", tarfile.SYMTYPE, "python3.13"), b""),
        (member("python/bin/other", tarfile.LNKTYPE, "python/bin/python3.13"), b""),
        (member("python/empty", tarfile.DIRTYPE, mode=0o755), b""),
        (member("python/null", tarfile.CHRTYPE), b""),
        (member("../../etc/x"), b"x"),
        (member("."), b""),
    )
    assert [(each.path, each.mode, each.target) for each in found] == [
        ("python/bin/python3.13", 0o755, None),
        ("python/bin/python3", 0o777, "python3.13"),
        ("python/bin/other", 0o755, None),
        ("python/empty", 0o755, None),
        ("etc/x", 0o644, None),
    ]
    assert [each.source.read_bytes() if each.source else None for each in found] == [b"p", None, b"p", None, b"x"]
    assert found[0].digest == found[2].digest


def test_what_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"^https://h/x\.tar\.gz is broken: "):
        read(tmp_path, (member("python/a", tarfile.LNKTYPE, "python/b"), b""))
    (tmp_path / "x.tar.gz").write_bytes(b"<html>")
    with pytest.raises(FetchError, match=r"^https://h/x\.tar\.gz is broken: "):
        list(files_in(tmp_path / "x.tar.gz", tmp_path / "files", name="https://h/x.tar.gz"))


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("prefix", "/install", "/opt/python"),
        ("LIBDIR", "/install/lib", "/opt/python/lib"),
        ("DESTDIRS", "/install /install/lib  /installed", "/opt/python /opt/python/lib  /installed"),
        ("CC", "clang -pthread", "cc -pthread"),
        ("CXX", "clang++ -pthread", "c++ -pthread"),
        ("LDSHARED", "/usr/bin/x86_64-linux-gnu-gcc -shared -L/clang", "cc -shared -L/clang"),
        ("LDCXXSHARED", "/usr/bin/arm-linux-gnueabihf-g++ -shared", "c++ -shared"),
        ("LINKCC", "musl-clang", "cc"),
        ("AR", "/tools/llvm/bin/llvm-ar", "ar"),
        ("CFLAGS", "-O3 clang", "-O3 clang"),
        ("Py_DEBUG", 0, 0),
    ],
)
def test_a_variable_of_the_build(name: str, written: object, value: object) -> None:
    content = f"# generated\nbuild_time_vars = {{{name!r}: {written!r}, 'Ä': 'ö'}}\n".encode()
    namespace: dict[str, dict[str, object]] = {}
    exec(corrected(VARIABLES, content, prefix="/opt/python"), namespace)
    assert namespace["build_time_vars"] == {name: value, "Ä": "ö", "PYTHON_BUILD_STANDALONE": 1}


def test_pkg_config_finds_it() -> None:
    content = b"# x\nprefix=/install\nexec_prefix=${prefix}\nlibdir=/install/lib\n"
    assert corrected(PC, content, prefix="/opt/python") == content.replace(b"=/install\n", b"=${pcfiledir}/../..\n")


@pytest.mark.parametrize(
    "content",
    [b"", b"x = ", b"v = f()", b"v = [1]", b"\xff", b"pass", b"v = {1: 2, 'b': 3}", b"v = {[]: 1}"],
)
def test_what_is_of_another_form_stays(content: bytes) -> None:
    assert corrected(VARIABLES, content, prefix="/opt/python") == content


def test_which_files_are_corrected() -> None:
    assert is_corrected(VARIABLES)
    assert is_corrected("python/lib/python3.14t/_sysconfigdata_t_linux_x86_64-linux-gnu.py")
    assert is_corrected(PC)
    assert not is_corrected("python/lib/python3.13/sysconfig.py")
