"""The first image of a project: what a folder has already, as the text of a kimage.py that takes it over.

One file of the folder becomes the image, the one that says most: a Dockerfile, else a lock, else what people wrote by
hand. The others are named in a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from klock.documents import read_toml
from klock.errors import ImageError
from klock.escaping import on_one_line
from klock.values import dataclass

__all__ = ["Beginning", "begin_image"]

_HEAD: Final = '''"""The environment of this project: klock lock, klock sync, klock run -- COMMAND."""

import klock as kt
'''
_OWN_CODE: Final = "Your own code is not in it: add .rsync(...) or .sync_package(...)"
_PYTHONS: Final = ("3.12", "3.13", "3.11", "3.14", "3.10", "3.9")
"""Which Python is taken of those that fit, the first first."""
_DEBIAN: Final = "debian:bookworm-slim"
_BRINGS_PYTHON: Final = re.compile(r"(?:[^:\s]*::)?(?:python|pip)(?![\w.-])")
_MINOR: Final = re.compile(r"=*\s*(\d+\.\d+)(?:[.*=\s]|$)")
_LARGEST: Final = 64 << 20
_FOLDER: Final = "/srv/app"
_OF_PROJECTS: Final = ("pyproject.toml", "setup.cfg", "setup.py")
_REQUIREMENTS: Final = (
    *("requirements.txt", "requirements.in"),
    *(f"requirements/{name}.txt" for name in ("production", "prod", "main", "requirements", "default", "base")),
)
_PLAIN: Final = (*_REQUIREMENTS, "environment.yml", "environment.yaml")
"""Files that uv's settings for a project are not part of."""
_OF_OTHERS: Final[Mapping[str, str]] = {
    "poetry.lock": "poetry export -o requirements.txt",
    "pdm.lock": "pdm export -o requirements.txt",
    "Pipfile.lock": "pipenv requirements > requirements.txt",
    "Pipfile": "pipenv lock && pipenv requirements > requirements.txt",
    "pixi.lock": "pixi workspace export conda-environment environment.yml",
    "pixi.toml": "pixi workspace export conda-environment environment.yml",
}
"""Files that klock does not read, and how their tool writes one that it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The text of a kimage.py; `source` is the file that it takes over."""

    text: str
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """`python` is what the file says of the version, `calls` are those of the builder, `comments` lines before them.
    `base` is an expression, where it is not a Python image."""

    python: str | None = None
    calls: Sequence[str] = ()
    comments: Sequence[str] = ()
    dockerfile: str | None = None
    base: str | None = None


def begin_image(folder: Path) -> Beginning:
    """The first image for `folder`. Raises ImageError for a file that cannot be read."""
    found = [name for name in _READERS if (folder / name).is_file()]
    unread = next((name for name in _OF_OTHERS if (folder / name).is_file()), None)
    read = ((name, part) for name in found if (part := _READERS[name](folder, name)) is not None)
    source, part = next(read, (None, None))
    if source is None or part is None:
        if "uv.lock" in found:
            raise ImageError(
                "uv.lock is here without its pyproject.toml",
                hint="put pyproject.toml beside it; or take over its packages alone: `uv export -o pylock.toml`",
            )
        if unread is not None:
            hint = f"write a file that it reads: `{_OF_OTHERS[unread]}`; then `klock init`"
            raise ImageError(f"klock does not read {unread}", hint=hint)
        part = _EXAMPLE
    comments = [*part.comments]
    if unread is not None and source in _OF_PROJECTS:
        way = f"remove this file, run `{_OF_OTHERS[unread]}`, then `klock init`"
        comments.append(f"For the versions in {unread}: {way}")
    if source in _PLAIN and (settings := _settings_of_uv(folder)):
        comments.append(f"{settings} has settings of uv; klock takes what {source} says, and not those")
    if source is not None and (others := _said_otherwise(found[found.index(source) + 1 :])):
        comments.append(f"Not taken over, as {source} is here too: {', '.join(others)}")
    lines = [_HEAD, *(f"# {on_one_line(comment)}" for comment in comments)]
    if part.dockerfile is not None:
        lines.append(f"image = kt.Image.from_dockerfile({_literal(part.dockerfile)})")
    else:
        base = part.base or f"kt.images.python({_literal(_version(part.python or _of_project(folder)))})"
        lines += ["image = (", f"    {base}", *(f"    {call}" for call in part.calls), ")"]
    return Beginning(text="\n".join(lines) + "\n", source=source)


def _said_otherwise(names: Sequence[str]) -> list[str]:
    """The files of these that are about other packages. A lock says what its project says, and one list of requirements
    stands for all."""
    listed = [name for name in names if name in _REQUIREMENTS]
    return [name for name in names if name not in (*_OF_PROJECTS, *listed)] + listed[:1]


_EXAMPLE: Final = _Part(
    calls=['.pip_install(["numpy>=1.24"])', '.set_env_vars({"OMP_NUM_THREADS": "4"})'],
    comments=[
        'Without a registry at hand, begin with Debian\'s own packages: kt.images.from_debian("bookworm", ["python3"])'
    ],
)


# -- the files


def _dockerfile(folder: Path, name: str) -> _Part:
    return _Part(
        dockerfile=name,
        comments=["More steps may follow: kt.Image.from_dockerfile(...).pip_install([...])"],
    )


def _uv_lock(folder: Path, name: str) -> _Part | None:
    if not (folder / "pyproject.toml").is_file():
        return None
    python = _toml(folder, name).get("requires-python")
    return _Part(
        python=_text(python),
        calls=[".uv_sync()"],
        comments=["uv.lock has the versions and hashes.", _OWN_CODE],
    )


def _pylock(folder: Path, name: str) -> _Part:
    return _Part(
        python=_text(_toml(folder, name).get("requires-python")),
        calls=[f".pip_install([{_literal(f'-r {name}')}])"],
        comments=[f"{name} has the versions and hashes."],
    )


def _conda(folder: Path, name: str) -> _Part:
    """conda's packages are conda's. If pip installs everything, a base with Python will do."""
    from klock.image.conda import read_conda_environment

    hint = "fix it, or move it away and run `klock init` again"
    read = read_conda_environment(_content(folder, name), name, hint=hint)
    if read.others:
        brings_python = not read.pip or any(_BRINGS_PYTHON.match(spec) for spec in read.specs)
        base = f"kt.Image().from_docker({_literal(_DEBIAN)})" if brings_python else None
        return _Part(python=read.python, base=base, calls=[f".conda_install(spec_file={_literal(name)})"])
    calls = []
    if read.pip:
        calls.append(f".pip_install([{', '.join(map(_literal, read.pip))}])")
    if read.variables:
        pairs = ", ".join(f"{_literal(n)}: {_literal(_no_reference(v))}" for n, v in read.variables.items())
        calls.append(f".set_env_vars({{{pairs}}})")
    return _Part(python=read.python, calls=calls)


def _requirements(folder: Path, name: str) -> _Part:
    return _Part(calls=[f".pip_install([{_literal(f'-r {name}')}])"])


def _pyproject(folder: Path, name: str) -> _Part | None:
    tables = _toml(folder, name)
    project, poetry = _table(tables, "project"), _table(_table(tables, "tool"), "poetry")
    python = _text(project.get("requires-python"))
    if project.get("dependencies"):
        return _Part(python=python, calls=[".pip_install_from_pyproject()"], comments=[_OWN_CODE])
    if "build-system" not in tables and not poetry and "dynamic" not in project:
        return None
    of_poetry = _text(_table(poetry, "dependencies").get("python"))
    return _built(python=python or (_without_poetrys_signs(of_poetry) if of_poetry else None))


def _without_poetrys_signs(version: str) -> str:
    """Poetry's `^3.11` means at least 3.11, and `~3.11` just 3.11."""
    return version.replace("^", ">=") if "^" in version else version.removeprefix("~")


def _setup_cfg(folder: Path, name: str) -> _Part | None:
    import configparser

    read = configparser.ConfigParser(interpolation=None)
    try:
        read.read_string(_content(folder, name).decode("utf-8"))
    except (configparser.Error, ValueError) as error:
        raise ImageError(f"{name} cannot be read: {on_one_line(str(error))}") from error
    if not read.has_section("metadata") and not read.has_section("options"):
        return None  # it only has settings of linters
    return _built(python=read.get("options", "python_requires", fallback=None))


def _built(python: str | None = None) -> _Part:
    """A project whose requirements only its build tells."""
    return _Part(
        python=python,
        calls=[
            f'.rsync(".", "{_FOLDER}", contents=True, filter_options="--exclude=/kimage.py")',
            f'.pip_install(["{_FOLDER}"])',
        ],
        comments=["klock builds the project, and installs it with what it requires."],
    )


_READERS: Final[Mapping[str, Callable[[Path, str], _Part | None]]] = {
    "Dockerfile": _dockerfile,
    "Containerfile": _dockerfile,
    "uv.lock": _uv_lock,
    "pylock.toml": _pylock,
    "environment.yml": _conda,
    "environment.yaml": _conda,
    **dict.fromkeys(_REQUIREMENTS, _requirements),
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "setup.py": lambda folder, name: _built(),
}
"""What takes over a file, by its name; what says most comes first."""


# -- the Python


def _of_project(folder: Path) -> str | None:
    """What the project says of its Python, where the file itself says nothing."""
    pinned = folder / ".python-version"
    if pinned.is_file():
        first = _content(folder, pinned.name).decode("utf-8", "replace").strip().splitlines()[:1]
        return first[0].removeprefix("cpython-") if first else None
    if (folder / "pyproject.toml").is_file():
        return _text(_table(_toml(folder, "pyproject.toml"), "project").get("requires-python"))
    return None


def _version(wanted: str | None) -> str:
    """`3.11` for conda's `3.11`, `=3.11.4` and `==3.11`, and for a specifier the first of _PYTHONS that meets it."""
    if wanted is None:
        return _PYTHONS[0]
    if match := _MINOR.match(wanted):
        return match[1]
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        specifier = SpecifierSet(wanted.replace(" ", ""))
    except InvalidSpecifier:
        return _PYTHONS[0]
    # The last release of each: `>3.11` and `>=3.11.5` mean one that is there.
    return next((python for python in _PYTHONS if specifier.contains(f"{python}.99")), _PYTHONS[0])


def _settings_of_uv(folder: Path) -> str | None:
    """The file with settings that decide what `uv pip` installs, in words."""
    if (folder / "uv.toml").is_file():
        return "uv.toml"
    if not (folder / "pyproject.toml").is_file():
        return None
    uv = _table(_table(_toml(folder, "pyproject.toml"), "tool"), "uv")
    return "pyproject.toml" if uv.keys() - {"package", "managed", "dev-dependencies", "workspace"} else None


# -- reading and writing


def _content(folder: Path, name: str) -> bytes:
    try:
        with open(folder / name, "rb") as file:
            return file.read(_LARGEST + 1)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}") from error


def _toml(folder: Path, name: str) -> dict[str, Any]:
    try:
        return read_toml(_content(folder, name).decode("utf-8"))
    except ValueError as error:
        raise ImageError(
            f"{name} cannot be read: {error}", hint="fix it, or move it away and run `klock init` again"
        ) from error


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tables.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _literal(text: str) -> str:
    """A string of Python's: JSON's are, but for characters that nobody sees."""
    return on_one_line(json.dumps(text, ensure_ascii=False))


def _no_reference(value: str) -> str:
    r"""conda takes `$` as it is; `set_env_vars` wants `\$` for that."""
    return value.replace("$", r"\$")
