"""What others install: the sdist and the wheel are built, opened and installed, and hold what they should, no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
import uv
from packaging.requirements import Requirement

import klock

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
STEM = f"klock_env-{klock.__version__}"

IN_THE_ROOT = {
    *(".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md"),
    *("benchmarks", "demo", "docs", "fixtures", "kimage.lock", "kimage.py", "klock", "pyproject.toml", "tests"),
    *("action.yml", ".pre-commit-hooks.yaml"),  # where GitHub and pre-commit look for them
}
"""All that the repository's root may hold. What is in neither distribution is for those who work on klock."""

STRAY = (
    "isal-1.9.1-cp311-cp311-manylinux2014_x86_64.whl",
    "dist/klock-0.0.1.tar.gz",
    "klock/notes.txt",
    "klock/__pycache__/errors.cpython-311.pyc",
    "klock/six-1.16.0-py3-none-any.whl",
    "tests/test_mine.py",
)
"""What may lie in the folder of whoever builds the distributions."""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def run_uv(*arguments: str | Path) -> None:
    """uv with nothing but what is on this machine."""
    subprocess.run([uv.find_uv_bin(), *arguments, "--offline", "--quiet"], check=True)


def build(source: Path, folder: Path, *options: str) -> None:
    run_uv("build", source, *options, "--out-dir", folder, "--python", sys.executable, "--no-build-isolation")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working copy in which more lies about than the repository has."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*tracked(), *STRAY):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name in tracked():
        shutil.copy(ROOT / name, folder / name)
    for name in STRAY:
        (folder / name).write_bytes(b"stray")
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    build(source, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built / f"{STEM}-py3-none-any.whl")


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return BytesParser().parsebytes(wheel.read(f"{STEM}.dist-info/METADATA"))


def package_files() -> set[str]:
    return {name for name in tracked() if name.startswith("klock/")}


def test_the_repository_s_root_holds_nothing_that_does_not_belong_there() -> None:
    assert {name.partition("/")[0] for name in tracked()} <= IN_THE_ROOT


def test_the_wheel_holds_the_package_its_licence_and_its_metadata(wheel: zipfile.ZipFile) -> None:
    about = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert set(wheel.namelist()) == package_files() | {f"{STEM}.dist-info/{name}" for name in about}
    assert "klock/py.typed" in wheel.namelist()
    assert wheel.read(f"{STEM}.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_holds_the_package_and_what_builds_it(built: Path) -> None:
    about = {"PKG-INFO", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"}
    with tarfile.open(built / f"{STEM}.tar.gz") as sdist:
        names = {member.name for member in sdist if member.isfile()}
    assert names == {f"{STEM}/{name}" for name in package_files() | about}


def test_the_wheel_s_metadata_is_the_project_s(metadata: Message) -> None:
    assert metadata["Name"] == "klock-env"
    assert metadata["Version"] == klock.__version__
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert metadata["Author"] == "The klock authors"
    assert metadata.get_all("Classifier") == PROJECT["classifiers"]
    assert metadata.get_all("Provides-Extra") == sorted(PROJECT["optional-dependencies"])
    requires = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert list(map(Requirement, requires)) == list(map(Requirement, PROJECT["dependencies"]))


def test_the_wheel_is_the_same_from_a_working_copy_and_from_the_sdist(
    source: Path, built: Path, tmp_path: Path
) -> None:
    build(source, tmp_path, "--wheel")
    name = f"{STEM}-py3-none-any.whl"
    assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


@pytest.fixture(scope="module")
def installed(built: Path, metadata: Message, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel, and of what these tests run on only what the wheel asks for."""
    folder = tmp_path_factory.mktemp("installed")
    run_uv("venv", folder, "--python", sys.executable, "--clear")
    (wheel,) = built.glob("*.whl")
    run_uv("pip", "install", wheel, "--no-deps", "--python", folder / "bin/python")
    (site,) = folder.glob("lib/python*/site-packages")
    for found in required(metadata.get_all("Requires-Dist", [])):
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (site / name).symlink_to(Path(str(found.locate_file(name))))
    return folder


def required(lines: Iterable[str]) -> list[Distribution]:
    """The installed distributions that the lines lead to, those for an extra left out."""
    found: dict[tuple[str, str], Distribution] = {}
    pending = [(Requirement(line), "") for line in lines]
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (requirement.name, wanted) not in found:
                found[requirement.name, wanted] = distribution(requirement.name)
                pending += [(Requirement(line), wanted) for line in found[requirement.name, wanted].requires or ()]
    return [each for (_, extra), each in found.items() if not extra]


def in_installed(folder: Path, working_dir: Path, *command: str) -> str:
    done = subprocess.run(
        [folder / "bin" / command[0], *command[1:]],
        cwd=working_dir,
        env={"PATH": os.defpath, "HOME": str(working_dir), "KLOCK_CACHE_DIR": str(working_dir / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_command_says_the_wheel_s_version(installed: Path, tmp_path: Path) -> None:
    assert in_installed(installed, tmp_path, "klock", "--version") == f"klock {klock.__version__}\n"


def test_an_image_is_written_and_read_by_what_is_installed(installed: Path, tmp_path: Path) -> None:
    in_installed(installed, tmp_path, "klock", "init")
    assert in_installed(installed, tmp_path, "python", "-c", "import kimage; print(kimage.image.base)")


def test_every_module_can_be_imported_without_extras(installed: Path, tmp_path: Path) -> None:
    script = (
        "import importlib, pkgutil, klock\n"
        "for found in pkgutil.walk_packages(klock.__path__, 'klock.'):\n"
        "    if found.name != 'klock.__main__':\n"
        "        importlib.import_module(found.name)\n"
        "print(klock.__file__)\n"
    )
    assert Path(in_installed(installed, tmp_path, "python", "-c", script)).is_relative_to(installed)
