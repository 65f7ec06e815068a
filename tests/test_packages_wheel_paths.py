"""What installing a wheel writes, without installing it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from klock.packages.wheel_paths import paths_in_record, paths_of_wheel

PATHS = {
    "purelib": "/usr/lib/python3/site-packages",
    "platlib": "/usr/lib64/python3/site-packages",
    "scripts": "/usr/bin",
    "data": "/usr",
    "include": "/usr/include/python3.11",
}
LIB, LIB64 = PATHS["purelib"], PATHS["platlib"]
PURE = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
BINARY = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"


def make_wheel(folder: Path, members: Mapping[str, str], *, wheel: str = PURE) -> Path:
    """A wheel of the project `a` 1.0, in a file that is not named as one, as in the store."""
    path = folder / "blob"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "a-1.0.dist-info/WHEEL": wheel}.items():
            archive.writestr(name, content)
        archive.writestr("a-1.0.dist-info/RECORD", "")
    return path


# What a wheel holds, and where that goes besides its metadata.
WRITTEN: dict[str, tuple[dict[str, str], list[str]]] = {
    "modules": ({"a/__init__.py": "", "b.py": ""}, [f"{LIB}/a/__init__.py", f"{LIB}/b.py"]),
    "no folders of their own": ({"a/": "", "a/x.py": ""}, [f"{LIB}/a/x.py"]),
    "scripts and data": (
        {"a-1.0.data/scripts/run": "", "a-1.0.data/data/share/a.txt": ""},
        ["/usr/bin/run", "/usr/share/a.txt"],
    ),
    "modules of the other kind": ({"a-1.0.data/platlib/a.so": ""}, [f"{LIB64}/a.so"]),
    "headers, in a virtual environment or not": (
        {"a-1.0.data/headers/a.h": ""},
        ["/usr/include/python3.11/a/a.h", "/usr/include/site/python3.11/a/a.h"],
    ),
    "the programs of its entry points": (
        {"a-1.0.dist-info/entry_points.txt": "[console_scripts]\nA-b = a:main\n[gui_scripts]\ng = a:m\n[x]\ny = z:w\n"},
        ["/usr/bin/A-b", "/usr/bin/g", f"{LIB}/a-1.0.dist-info/entry_points.txt"],
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_a_wheel_writes(case: str, tmp_path: Path) -> None:
    members, expected = WRITTEN[case]
    metadata = [f"{LIB}/a-1.0.dist-info/{name}" for name in ("WHEEL", "RECORD")]
    found = paths_of_wheel(make_wheel(tmp_path, members), "a-1.0-py3-none-any.whl", PATHS)
    assert found is not None
    assert sorted(found) == sorted([*expected, *metadata])


def test_a_binary_wheel_goes_to_the_folder_of_its_platform(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"a.so": ""}, wheel=BINARY)
    assert f"{LIB64}/a.so" in (paths_of_wheel(wheel, "a-1.0-cp311-cp311-linux_x86_64.whl", PATHS) or [])


@pytest.mark.parametrize(
    ("file_name", "members", "wheel"),
    [
        pytest.param("a-1.0.zip", {}, PURE, id="not named as a wheel"),
        pytest.param("b-1.0-py3-none-any.whl", {}, PURE, id="the wheel of another project"),
        pytest.param("a-1.0-py3-none-any.whl", {}, "Wheel-Version: 2.0\n", id="a format that is not known"),
        pytest.param("a-1.0-py3-none-any.whl", {"a-1.0.data/other/x": ""}, PURE, id="data of an unknown kind"),
        pytest.param(
            "a-1.0-py3-none-any.whl",
            {"a-1.0.dist-info/entry_points.txt": "[console_scripts]\na = module\n"},
            PURE,
            id="a program without a function",
        ),
        pytest.param("a-1.0-py3-none-any.whl", {"a-1.0.dist-info/entry_points.txt": "a = b\n"}, PURE, id="no section"),
    ],
)
def test_nobody_can_say_what_it_writes(file_name: str, members: dict[str, str], wheel: str, tmp_path: Path) -> None:
    assert paths_of_wheel(make_wheel(tmp_path, members, wheel=wheel), file_name, PATHS) is None


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"no archive")
    assert paths_of_wheel(path, "a-1.0-py3-none-any.whl", PATHS) is None


@pytest.mark.parametrize(
    ("record", "paths"),
    [
        (
            b"a/__init__.py,sha256=x,3\r\na-1.0.dist-info/RECORD,,\r\n",
            ["/lib/a/__init__.py", "/lib/a-1.0.dist-info/RECORD"],
        ),
        (b"../bin/a,,\n/etc/a,,\n", ["/bin/a", "/etc/a"]),
        (b'"a,b.py",,\n\n', ["/lib/a,b.py"]),
        ("a\u2028b.py,,\nc.py,,\n".encode(), ["/lib/a\u2028b.py", "/lib/c.py"]),
        (b"", []),
        (b"a.py\n", []),
        (b"\xff,,\n", []),
    ],
)
def test_an_installed_distribution_says_what_it_holds(record: bytes, paths: list[str]) -> None:
    assert paths_in_record(record, "/lib") == paths
