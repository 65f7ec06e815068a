"""Reads conda's environment.yml: what of it klock can take over, and what is left to do by hand.

The format: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from klock.errors import ImageError
from klock.extras import missing_extra_hint
from klock.values import dataclass, replace

__all__ = ["CondaEnvironment", "read_conda_environment", "read_spec_file"]

_MATCH_SPEC: Final = re.compile(r"(?:[^:\s\[]*::)?(?P<name>[A-Za-z0-9_.-]+)\s*(?P<version>[^\[]*)")
_NAMES_FILE: Final = re.compile(
    r"(?P<option>-r|-c|--requirements?|--constraints?)[\s=]*(?P<path>'[^']+'|\"[^\"]+\"|[^\s'\"]+)(?P<more>(?:\s.*)?)"
)
_FOR_CONDA_ALONE: Final = ("pip", "setuptools", "wheel")
"""What conda's environments name to have pip: every base with Python has its own."""
_LARGEST: Final = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaEnvironment:
    """`python` is a version specifier (PEP 440, or conda's `3.11`), `pip` are lines as `pip_install` takes them.
    `others` are the packages that only conda installs, as they are written, `specs` all of conda's own, of `channels`.
    """

    python: str | None
    pip: tuple[str, ...]
    others: tuple[str, ...]
    variables: Mapping[str, str]
    specs: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


def read_spec_file(path: Path, method: str, *, folder: Path) -> CondaEnvironment:
    """The environment.yml at `path`, which `method` was given; files that it names for pip are from `folder` then.

    Raises ImageError.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{method}: cannot read {path}: {error.strerror}", hint="check the path") from error
    read = read_conda_environment(content, path.name)
    above = os.path.relpath(path.parent, folder)
    return read if above == "." else replace(read, pip=tuple(_from_folder(line, above) for line in read.pip))


def _from_folder(line: str, above: str) -> str:
    """A line `-r FILE` or `-c FILE`, whose file conda looks for beside the environment.yml."""
    found = _NAMES_FILE.fullmatch(line.strip())
    if found is None or "://" in found["path"]:
        return line
    path = os.path.normpath(Path(above) / found["path"].strip("'\""))
    return f"{found['option']} {shlex.quote(path)}{found['more']}"


def read_conda_environment(content: bytes, where: str, *, hint: str = "fix it") -> CondaEnvironment:
    """Raises ImageError, which begins with `where`. `hint` is for what is not YAML."""
    document = _document(content, where, hint)
    if not isinstance(document, dict):
        raise ImageError(f"{where} is not a conda environment: it is not a table")
    python: str | None = None
    pip: list[str] = []
    others: list[str] = []
    specs: list[str] = []
    for item in _list(document.get("dependencies"), f"{where}: dependencies"):
        if isinstance(item, dict) and set(item) == {"pip"}:
            pip += [_text(line, f"{where}: pip") for line in _list(item["pip"], f"{where}: pip")]
            continue
        spec = _text(item, f"{where}: dependencies")
        specs.append(spec)
        match = _MATCH_SPEC.fullmatch(spec.partition("[")[0].strip())
        name, version = (match["name"].lower(), match["version"].strip()) if match else ("", "")
        if name == "python":
            python = version or None
        elif name not in _FOR_CONDA_ALONE:
            others.append(spec)
    variables = document.get("variables") or {}
    if not isinstance(variables, dict):
        raise ImageError(f"{where}: variables is not a table")
    values = {_text(n, f"{where}: variables"): _text(v, f"{where}: variables") for n, v in variables.items()}
    channels = [_text(each, f"{where}: channels") for each in _list(document.get("channels"), f"{where}: channels")]
    return CondaEnvironment(
        python=python,
        pip=tuple(pip),
        others=tuple(others),
        variables=values,
        specs=tuple(specs),
        channels=tuple(channel for channel in channels if channel != "nodefaults"),
    )


def _document(content: bytes, where: str, hint: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImageError(f"{where} cannot be read without PyYAML", hint=missing_extra_hint("conda")) from error
    if len(content) > _LARGEST:
        raise ImageError(f"{where} is longer than {_LARGEST >> 20} MiB")
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or "it is not YAML"
        raise ImageError(f"{where}{line}: {reason}", hint=hint) from None


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ImageError(f"{where} is not a list")
    return value


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ImageError(f"{where}: {value!r} is not text")
    return str(value)
