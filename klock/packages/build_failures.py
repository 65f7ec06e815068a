"""What a failed build has to say: the lines that tell the reason, and what to do about it in the builder's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from klock.errors import ResolutionError, StepFailed

__all__ = ["BuildFailed", "UnbuiltSource", "essence", "hint_for_build", "undeclared"]

_MISSING: Final = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '?(?P<module>[A-Za-z0-9_]+)")
_LIKELY: Final = re.compile(r"depends on `(?P<module>[A-Za-z0-9._-]+)`, but doesn't declare it as a build dependency")
_OF_PYTHON: Final = frozenset({"distutils", "imp", "lib2to3"})
_LINES: Final = 16
_TRACEBACK: Final = "Traceback (most recent call last):"


class BuildFailed(StepFailed):
    """The build backend of a project ends with an error."""


class UnbuiltSource(ResolutionError):
    """uv could not fetch or build a source that it has to know the requirements of."""


def essence(output: str) -> str:
    """The last lines without the frames of Python's tracebacks, which are about the build backend's own code."""
    lines = [line.rstrip() for line in _without_frames(output.splitlines()) if line.strip()]
    margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    kept = lines[-_LINES:]
    return "\n".join([*(["..."] if len(lines) > _LINES else []), *(line[margin:] for line in kept)])


def _without_frames(lines: list[str]) -> Iterator[str]:
    margin: int | None = None  # of the traceback that is being read
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip() == _TRACEBACK:
            margin = indent
        elif margin is None or (line.strip() and indent <= margin):
            margin = None
            yield line


def undeclared(output: str) -> str | None:
    """A module that a build imports without having declared it. None when that is not why it fails."""
    found = _LIKELY.search(output) or _MISSING.search(output)
    return found["module"] if found and found["module"] not in _OF_PYTHON else None


def hint_for_build(output: str, name: str) -> str:
    """What to do where the build of `name` fails with `output`."""
    module = undeclared(output)
    if module is not None:
        return (
            f"{name} imports {module} when it is built, and does not declare that it needs it (uv's "
            "extra-build-dependencies). Build it against what the image has: "
            f'pip_install(["{module}"]).pip_install(["--no-build-isolation {name}"])'
        )
    if _MISSING.search(output):
        return f"the Python of the base is too new for {name}: ask for a newer version of it, or take an older Python"
    if "Git executable not found" in output:
        return "install git in an earlier step: klock builds the source to read its metadata"
    return (
        "ask for a version that has a wheel for this Python, or install what the build needs (compilers, libraries) in "
        "an earlier step; a build has no network"
    )
