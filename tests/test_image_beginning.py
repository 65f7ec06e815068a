"""`klock init`: what a folder has becomes a kimage.py that takes it over, and that can be drafted as it is."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import ImageError
from klock.image.beginning import begin_image
from klock.image.loading import ImageReference, LoadedImage, load
from klock.image.requirement_files import read_requirements
from klock.image.steps import PipInstall, RegistryBase, SetEnvVars
from klock.locking.draft import draft_image

PROJECT = '[project]\nname = "demo"\nversion = "1"\nrequires-python = ">=3.10,<3.12"\ndependencies = ["six"]\n'
UV_LOCK = """\
version = 1
requires-python = "==3.13.*"

[[package]]
name = "demo"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "six" }]

[package.metadata]
requires-dist = [{ name = "six" }]

[[package]]
name = "six"
version = "1.16.0"
source = { registry = "https://pypi.org/simple" }
wheels = [{ url = "https://h/six-1.16.0-py2.py3-none-any.whl", hash = "sha256:SHA", size = 1 }]
""".replace("SHA", "a" * 64)
PYLOCK = """\
lock-version = "1.0"
created-by = "test"
requires-python = ">=3.13"
[[packages]]
name = "six"
version = "1.16.0"
wheels = [{url = "https://h/six-1.16.0-py2.py3-none-any.whl", hashes = {sha256 = "SHA"}}]
""".replace("SHA", "a" * 64)
CONDA = """\
name: demo
channels: [conda-forge]
dependencies:
  - python=3.11
  - conda-forge::numpy>=1.26
  - pip
  - cudatoolkit =11.8
  - pip:
      - six==1.16.0
      - -r more.txt
variables:
  HOME_OF: $HOME/x
"""

CASES: Mapping[str, tuple[Mapping[str, str], str, str, list[str]]] = {
    # files, what is taken over, the base, what is installed
    "a list of requirements": (
        {"requirements.txt": "six==1.16.0\n", ".python-version": "3.10.4\n"},
        *("requirements.txt", "python:3.10-slim", ["six==1.16.0"]),
    ),
    "a project": ({"pyproject.toml": PROJECT}, "pyproject.toml", "python:3.11-slim", ["six"]),
    "no dependencies": (
        {"pyproject.toml": "[tool.ruff]\n"},
        "",
        "python:3.12-slim",
        ["numpy>=1.24"],
    ),
    "a project's lock": (
        {"pyproject.toml": PROJECT, "uv.lock": UV_LOCK, "requirements.txt": "old\n"},
        *("uv.lock", "python:3.13-slim", ["six==1.16.0"]),
    ),
    "a lock of any tool": ({"pylock.toml": PYLOCK}, "pylock.toml", "python:3.13-slim", ["six==1.16.0"]),
    "an environment of conda": (
        {"environment.yml": CONDA, "more.txt": "idna\n"},
        *("environment.yml", "debian:bookworm-slim", ["six==1.16.0", "idna"]),
    ),
    "a Dockerfile": (
        {"Dockerfile": "FROM debian:bookworm\nENV A=1\n", "requirements.txt": "six\n"},
        *("Dockerfile", "debian:bookworm", []),
    ),
    "nothing": ({}, "", "python:3.12-slim", ["numpy>=1.24"]),
    "a version of Python": ({".python-version": "3.13\n"}, "", "python:3.13-slim", ["numpy>=1.24"]),
    "what pip-compile reads": ({"requirements.in": "six\n"}, "requirements.in", "python:3.12-slim", ["six"]),
    "lists in a folder": (
        {"requirements/base.txt": "six\n", "requirements/prod.txt": "-r base.txt\nidna\n"},
        *("requirements/prod.txt", "python:3.12-slim", ["six", "idna"]),
    ),
    "settings of linters": ({"setup.cfg": "[flake8]\n"}, "", "python:3.12-slim", ["numpy>=1.24"]),
}
POETRY = '[tool.poetry]\nname = "demo"\n[tool.poetry.dependencies]\npython = "%s"\nsix = "*"\n'
BUILT: Mapping[str, tuple[Mapping[str, str], str]] = {
    # files, and the base
    "setup.py": ({"setup.py": "from setuptools import setup\nsetup()\n"}, "python:3.12-slim"),
    "setup.cfg": ({"setup.cfg": "[metadata]\nname = x\n[options]\npython_requires = <3.12\n"}, "python:3.11-slim"),
    "dynamic": ({"pyproject.toml": '[project]\nname = "x"\ndynamic = ["dependencies"]\n'}, "python:3.12-slim"),
    "a backend": (
        {"pyproject.toml": '[build-system]\nrequires = []\n[project]\nname = "x"\nrequires-python = "==3.13.*"\n'},
        "python:3.13-slim",
    ),
    "Poetry, at least": ({"pyproject.toml": POETRY % "^3.13"}, "python:3.13-slim"),
    "Poetry, just": ({"pyproject.toml": POETRY % "~3.11"}, "python:3.11-slim"),
}
UNREAD = {
    "Pipfile.lock": "pipenv requirements > requirements.txt",
    "pixi.toml": "pixi workspace export conda-environment environment.yml",
    "poetry.lock": "poetry export -o requirements.txt",
}


def begun(folder: Path, files: Mapping[str, str]) -> tuple[str, LoadedImage]:
    """The text of the kimage.py, and the image that it makes."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    text = begin_image(folder).text
    (folder / "kimage.py").write_text(text)
    return text, load(ImageReference(file=folder / "kimage.py", name="image"))


@pytest.mark.parametrize("case", CASES)
def test_what_a_folder_has_is_taken_over(case: str, tmp_path: Path) -> None:
    files, source, base, installed = CASES[case]
    _, loaded = begun(tmp_path, files)
    assert (begin_image(tmp_path).source or "") == source
    assert isinstance(loaded.image.base, RegistryBase)
    assert loaded.image.base.reference == base
    steps = [step for step in loaded.image.steps if isinstance(step, PipInstall)]
    found = [each for step in steps for each in read_requirements(step, tmp_path, {}).requirements]
    assert [str(getattr(each, "requirement", "")) for each in found] == installed
    draft_image(loaded.image, {})


@pytest.mark.parametrize("case", BUILT)
def test_a_project_that_only_its_build_knows_is_built(case: str, tmp_path: Path) -> None:
    files, base = BUILT[case]
    text, loaded = begun(tmp_path, files)
    assert isinstance(loaded.image.base, RegistryBase) and loaded.image.base.reference == base
    copied = '    .rsync(".", "/srv/app", contents=True, filter_options="--exclude=/kimage.py")'
    assert f'{copied}\n    .pip_install(["/srv/app"])\n' in text
    draft_image(loaded.image, {})


@pytest.mark.parametrize("name", UNREAD)
def test_how_to_take_over_what_klock_does_not_read_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(ImageError, match=f"^klock does not read {name}$") as caught:
        begin_image(tmp_path)
    assert f"`{UNREAD[name]}`" in (caught.value.hint or "")


def test_the_lock_of_another_tool_is_named(tmp_path: Path) -> None:
    text, _ = begun(tmp_path, {"poetry.lock": "", "pyproject.toml": POETRY % "^3.12"})
    assert "# For the versions in poetry.lock: remove this file, run `poetry export -o requirements.txt`" in text
    assert "poetry" not in begun(tmp_path, {"requirements.txt": "six\n"})[0]


def test_what_conda_installs_stays_conda_s(tmp_path: Path) -> None:
    text, loaded = begun(tmp_path, {"environment.yml": CONDA, "more.txt": "", "requirements.txt": "six\n"})
    assert text.partition("import klock as kt\n")[2] == textwrap.dedent("""
        # Not taken over, as environment.yml is here too: requirements.txt
        image = (
            kt.Image().from_docker("debian:bookworm-slim")
            .conda_install(spec_file="environment.yml")
        )
        """)
    assert any(isinstance(step, SetEnvVars) for step in loaded.image.steps)


def test_what_pip_alone_installs_needs_no_conda(tmp_path: Path) -> None:
    lines = ["dependencies: [python=3.11, pip, {pip: [six]}]", "variables: {HOME_OF: $HOME/x}"]
    text, loaded = begun(tmp_path, {"environment.yml": "\n".join(lines)})
    assert '    kt.images.python("3.11")\n    .pip_install(["six"])\n' in text
    [variables] = [step for step in loaded.image.steps if isinstance(step, SetEnvVars)]
    assert dict(variables.variables) == {"HOME_OF": r"\$HOME/x"}


PYTHONS = {
    "3.11": "3.11",
    "=3.10.2": "3.10",
    "==3.13": "3.13",
    "==3.13.*": "3.13",
    "3.9.*": "3.9",
    ">=3.8": "3.12",
    ">3.12": "3.12",
    ">=3.13": "3.13",
    "<3.12": "3.11",
    "~=3.10": "3.12",
    ">=3.9, <3.11": "3.10",
    "<3": "3.12",
    "what is this": "3.12",
}


@pytest.mark.parametrize("wanted", PYTHONS)
def test_the_python_is_one_that_fits(wanted: str, tmp_path: Path) -> None:
    content = yaml.safe_dump({"dependencies": [f"python {wanted}"]})
    text, _ = begun(tmp_path, {"environment.yml": content})
    assert f'kt.images.python("{PYTHONS[wanted]}")' in text


BROKEN = {
    "no YAML": ("a: [b\n", "environment.yml:2: expected "),
    "no table": ("- a\n", "environment.yml is not a conda environment: it is not a table"),
    "no list": ("dependencies: 7\n", "environment.yml: dependencies is not a list"),
    "no text": ("dependencies: [[a]]\n", "environment.yml: dependencies: ['a'] is not text"),
    "a Python object": (
        "dependencies: !!python/object/apply:os.system [id]\n",
        "environment.yml:1: could not determine",
    ),
}


def test_a_lock_without_its_project_is_said(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text(UV_LOCK)
    with pytest.raises(ImageError, match=r"^uv\.lock is here without its pyproject\.toml$"):
        begin_image(tmp_path)
    assert begun(tmp_path, {"requirements.txt": "six\n"})[1] is not None


@pytest.mark.parametrize("case", BROKEN)
def test_an_environment_of_conda_that_is_none(case: str, tmp_path: Path) -> None:
    content, message = BROKEN[case]
    (tmp_path / "environment.yml").write_text(content)
    with pytest.raises(ImageError) as caught:
        begin_image(tmp_path)
    assert caught.value.message.startswith(message)


@given(st.lists(st.text(max_size=20).map("x{}".format), max_size=4), st.lists(st.text(max_size=20), max_size=4))
def test_whatever_a_file_says_only_the_image_is_run(
    tmp_path_factory: pytest.TempPathFactory, conda: list[str], pip: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("begin")
    content = yaml.safe_dump({"name": conda, "dependencies": ["python", {"pip": pip}]}, allow_unicode=True)
    (folder / "environment.yml").write_bytes(content.encode("utf-8", "surrogatepass"))
    try:
        text = begin_image(folder).text
    except ImageError:
        return
    pip = yaml.safe_load(content)["dependencies"][-1]["pip"]  # a few characters do not come back as they were
    made: list[tuple[object, ...]] = []

    class Recorder:
        def __getattr__(self, name: str) -> Callable[..., Recorder]:
            def call(*arguments: object) -> Recorder:
                made.append((name, *arguments))
                return self

            return call

    exec(text.replace("import klock as kt", ""), {"kt": SimpleNamespace(images=Recorder())})
    assert made == ([("python", "3.12"), ("pip_install", pip)] if pip else [("python", "3.12")])


SETTINGS_OF_UV = {
    "a uv.toml": ({"uv.toml": 'index-url = "https://i"\n'}, "uv.toml"),
    "in pyproject.toml": ({"pyproject.toml": '[tool.uv.pip]\nindex-url = "https://i"\n'}, "pyproject.toml"),
    "that change no package": ({"pyproject.toml": "[tool.uv]\npackage = false\n"}, None),
    "none": ({"pyproject.toml": "[tool.ruff]\n"}, None),
}


@pytest.mark.parametrize("case", SETTINGS_OF_UV)
def test_settings_of_uv_beside_a_plain_file_are_named(tmp_path: Path, case: str) -> None:
    files, named = SETTINGS_OF_UV[case]
    for name, text in {"requirements.txt": "six\n", **files}.items():
        (tmp_path / name).write_text(text)
    said = f"# {named} has settings of uv; klock takes what requirements.txt says, and not those\n"
    assert (said in begin_image(tmp_path).text) == (named is not None)
