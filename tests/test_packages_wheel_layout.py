"""What a wheel installs, and where: files, scripts, metadata; and what hostile or broken wheels may not do."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from klock.errors import FetchError
from klock.layers.manifest import Kind, Manifest
from klock.lockfile.model import InstallFolders, WheelArtifact
from klock.packages.records import paths_in_record
from klock.packages.scheme import Scheme
from klock.packages.wheel_layout import lay_out

FOLDERS = InstallFolders(
    purelib="/usr/lib/python3/site-packages",
    platlib="/usr/lib64/python3/site-packages",
    scripts="/usr/bin",
    data="/usr",
    headers="/usr/include/python3.11",
)
SCHEME = Scheme(python="/usr/bin/python3", folders=FOLDERS, links={"/usr/man": "/usr/share/man"})
LIB, LIB64 = FOLDERS.purelib.lstrip("/"), FOLDERS.platlib.lstrip("/")
PURE = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
BINARY = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"
NAME = "a-1.0-py3-none-any.whl"


def make_wheel(folder: Path, members: Mapping[str, str], *, wheel: str = PURE) -> Path:
    """A wheel of the project `a` 1.0, in a file that is not named as one, as in the store."""
    path = folder / "blob"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "a-1.0.dist-info/WHEEL": wheel}.items():
            archive.writestr(name, content)
        archive.writestr("a-1.0.dist-info/RECORD", "")
    return path


def artifact(name: str = NAME) -> WheelArtifact:
    return WheelArtifact(name=name, url="", size=0, sha256="0" * 64)


def laid_out(wheel: Path, root: Path | None = None, name: str = NAME) -> Manifest:
    return lay_out(wheel, artifact(name), SCHEME, root=root)


# What a wheel holds, and where that goes besides its metadata.
INSTALLED: dict[str, tuple[dict[str, str], list[str]]] = {
    "modules": ({"a/__init__.py": "", "b.py": ""}, [f"{LIB}/a/__init__.py", f"{LIB}/b.py"]),
    "no folders of their own": ({"a/": "", "a/x.py": ""}, [f"{LIB}/a/x.py"]),
    "scripts and data": (
        {"a-1.0.data/scripts/run": "", "a-1.0.data/data/share/a.txt": ""},
        ["usr/bin/run", "usr/share/a.txt"],
    ),
    "modules of the other kind": ({"a-1.0.data/platlib/a.so": ""}, [f"{LIB64}/a.so"]),
    "headers, in a folder of the project": (
        {"a-1.0.data/headers/a.h": ""},
        ["usr/include/python3.11/a/a.h"],
    ),
    "the programs of its entry points": (
        {"a-1.0.dist-info/entry_points.txt": "[console_scripts]\nA-b = a:main\n[gui_scripts]\ng = a:m\n[x]\ny = z:w\n"},
        ["usr/bin/A-b", "usr/bin/g", f"{LIB}/a-1.0.dist-info/entry_points.txt"],
    ),
    "data behind a symlink": ({"a-1.0.data/data/man/man1/a.1": ""}, ["usr/share/man/man1/a.1"]),
    "compiled modules are left out": ({"a.py": "", "__pycache__/a.cpython-311.pyc": ""}, [f"{LIB}/a.py"]),
}


@pytest.mark.parametrize("case", INSTALLED)
def test_a_wheel_installs(case: str, tmp_path: Path) -> None:
    members, expected = INSTALLED[case]
    metadata = [f"{LIB}/a-1.0.dist-info/{name}" for name in ("WHEEL", "RECORD")]
    assert sorted(laid_out(make_wheel(tmp_path, members))) == sorted([*expected, *metadata])


def test_a_binary_wheel_goes_to_the_folder_of_its_platform(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"a.so": ""}, wheel=BINARY)
    assert f"{LIB64}/a.so" in laid_out(wheel, name="a-1.0-cp311-cp311-linux_x86_64.whl")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_written_is_what_is_said(umask: int, tmp_path: Path) -> None:
    """The same with files and without; modes whatever the umask; a RECORD that names every file with its hash."""
    members = {
        "a/__init__.py": "x = 1\n",
        "a-1.0.data/scripts/run": "#!python\nprint(1)\n",
        "a-1.0.dist-info/entry_points.txt": "[console_scripts]\na = a:main\n",
    }
    wheel = make_wheel(tmp_path, members)
    root = tmp_path / "root"
    root.mkdir()
    before = os.umask(umask)
    try:
        manifest = laid_out(wheel, root)
    finally:
        os.umask(before)
    assert manifest.digest == laid_out(wheel).digest
    for path, entry in manifest.items():
        content = (root / path).read_bytes()
        assert entry.kind is Kind.FILE
        assert (entry.size, entry.digest) == (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
        assert stat.S_IMODE((root / path).stat().st_mode) == entry.mode
        assert stat.S_IMODE((root / path).parent.stat().st_mode) == 0o755
    assert (root / "usr/bin/run").read_text() == "#!/usr/bin/python3\nprint(1)\n"
    assert (root / "usr/bin/a").read_text().startswith("#!/usr/bin/python3\n")
    assert (manifest["usr/bin/a"].mode, manifest[f"{LIB}/a/__init__.py"].mode) == (0o755, 0o644)
    record = (root / LIB / "a-1.0.dist-info/RECORD").read_text()
    digest = base64.urlsafe_b64encode(hashlib.sha256((root / "usr/bin/a").read_bytes()).digest()).decode().rstrip("=")
    assert f"../../../bin/a,sha256={digest}," in record
    assert sorted(paths_in_record(record.encode(), f"/{LIB}")) == sorted(f"/{path}" for path in manifest)


def test_patterns_are_left_out(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"a/__init__.py": "", "a/tests/x.py": ""})
    manifest = lay_out(wheel, artifact(), SCHEME, root=None, leave_out=["/usr/lib/python3/site-packages/a/tests"])
    assert f"{LIB}/a/__init__.py" in manifest
    assert f"{LIB}/a/tests/x.py" not in manifest


POINTS = "a-1.0.dist-info/entry_points.txt"
REFUSED: dict[str, tuple[str, dict[str, str], str]] = {
    "not named as a wheel": ("a-1.0.zip", {}, PURE),
    "the wheel of another project": ("b-1.0-py3-none-any.whl", {}, PURE),
    "a format that is not known": (NAME, {}, "Wheel-Version: 2.0\n"),
    "data of an unknown kind": (NAME, {"a-1.0.data/other/x": ""}, PURE),
    "a program without a function": (NAME, {POINTS: "[console_scripts]\na = module\n"}, PURE),
    "no section": (NAME, {POINTS: "a = b\n"}, PURE),
    "a file out of its folder": (NAME, {"../../../../etc/passwd": ""}, PURE),
    "an absolute path": (NAME, {"/etc/passwd": ""}, PURE),
    "data out of its folder": (NAME, {"a-1.0.data/data/../etc/passwd": ""}, PURE),
    "a program out of its folder": (NAME, {POINTS: "[console_scripts]\n../../etc/x = a:b\n"}, PURE),
    "a program that stands for the Python": (NAME, {POINTS: "[console_scripts]\npython3 = a:b\n"}, PURE),
    "one path twice": (NAME, {"a.py": "", "a-1.0.data/purelib/a.py": ""}, PURE),
    "a program twice": (NAME, {"a-1.0.data/scripts/b": "", POINTS: "[console_scripts]\nb = a:b\n"}, PURE),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wheel_is_refused_by_name(case: str, tmp_path: Path) -> None:
    name, members, about = REFUSED[case]
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(FetchError) as caught:
        laid_out(make_wheel(tmp_path, members, wheel=about), root, name)
    assert caught.value.message.startswith(f"{name} cannot be installed: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob", "root"]


def test_a_member_twice_and_what_is_no_archive(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"a.py": "1"})
    with zipfile.ZipFile(wheel, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.py", "2")
    with pytest.raises(FetchError, match=r"it has /usr/lib/python3/site-packages/a\.py twice"):
        laid_out(wheel)
    wheel.write_bytes(b"no archive")
    with pytest.raises(FetchError, match=NAME):
        laid_out(wheel)


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
