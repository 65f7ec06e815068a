"""Cases 56 to 58: where sync_package looks for a local package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import klock as kt
from klock.errors import ImageError
from klock.image.local_packages import locate_package, package_root
from klock.image.steps import SyncPackage


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/sub").mkdir(parents=True)
    (tmp_path / "project/setup.cfg").touch()
    return tmp_path / "project"


def install(site: Path, name: str, url: str) -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {"editable": True}}))


@pytest.mark.parametrize("mark", [".git", "pyproject.toml", "setup.py", "setup.cfg", "requirements.txt"])
def test_case_56_the_project_root(mark: str, tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a" / mark).touch()
    assert package_root(tmp_path / "a/b/c") == tmp_path / "a"


def test_case_56_the_home_folder_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".git").mkdir()
    (tmp_path / "a").mkdir()
    assert package_root(tmp_path / "a") == tmp_path / "a"


def test_case_56_a_path_starts_at_the_project_root(project: Path) -> None:
    (project / "libs/mine").mkdir(parents=True)
    assert locate_package("./libs/mine", folder=project / "sub") == project / "libs/mine"
    assert locate_package(str(project / "libs/mine"), folder=Path("/")) == project / "libs/mine"


def test_case_56_a_path_in_the_home(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    assert locate_package("~/sub", folder=Path("/")) == project / "sub"


NAMES = {
    "57: as installed": "My.Local_Lib",
    "57: in lower case": "my.local_lib",
    "57: normalised": "my-local-lib",
    "57: with other signs": "MY__LOCAL.LIB",
}


@pytest.mark.parametrize("case", NAMES)
def test_case_57_names_match_when_normalised(case: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = project / "with space/ü"
    source.mkdir(parents=True)
    install(project / "site", "My.Local_Lib", source.as_uri())
    monkeypatch.setattr(sys, "path", [str(project / "site"), *sys.path])
    assert "%20" in source.as_uri()
    assert locate_package(NAMES[case], folder=project) == source


@pytest.mark.parametrize("where", ["VIRTUAL_ENV", ".venv"])
def test_case_57_the_projects_environment_is_searched(
    where: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = project / (".venv" if where == ".venv" else "elsewhere")
    if where == "VIRTUAL_ENV":
        monkeypatch.setenv("VIRTUAL_ENV", str(environment))
    install(environment / "lib/python3.12/site-packages", "mine", (project / "sub").as_uri())
    assert locate_package("mine", folder=project) == project / "sub"


MISSING = {
    "58: a name": ("no_such_package", "https://h/x.tar.gz"),
    "58: a path": ("./no_such_package", ""),
    "58: installed from an archive": ("remote", "https://h/x.tar.gz"),
    "58: installed from a folder that is gone": ("gone", "file:///no/such/folder"),
}


@pytest.mark.parametrize("case", MISSING)
def test_case_58_a_missing_package(case: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, url = MISSING[case]
    for name in ("remote", "gone"):
        install(project / "site", name, url)
    monkeypatch.setattr(sys, "path", [str(project / "site"), *sys.path])
    with pytest.raises(ValueError) as caught:
        locate_package(package, folder=project)
    assert str(caught.value) == f"Could not locate local package {package}"


def test_the_step_and_its_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "libs/mine").mkdir(parents=True)
    install(project / "site", "my_lib", (project / "libs/mine").as_uri())
    monkeypatch.setattr(sys, "path", [str(project / "site"), *sys.path])
    image = kt.Image().sync_package(str(project / "libs/mine")).sync_package("my_lib", force=True)
    first, second = image.steps
    assert isinstance(first, SyncPackage) and isinstance(second, SyncPackage)
    assert (first.path, first.folder, first.force) == (str(project / "libs/mine"), "mine", False)
    assert (second.path, second.folder, second.force) == (str(project / "libs/mine"), "my_lib", True)
    assert image.contents == f"COPY {project}/libs/mine mine\nCOPY my_lib my_lib # force\n"


def test_the_error_says_what_to_do(project: Path) -> None:
    with pytest.raises(ImageError) as caught:
        locate_package("mine", folder=project)
    assert caught.value.hint == "install it with `pip install -e`, or give its path, such as ./mine"
