"""What a failed build has to say: the lines that tell the reason, and what to do about it in the builder's words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from klock.errors import ResolutionError, StepFailed

__all__ = ["BuildFailed", "UnbuiltSource", "essence", "hint_for_build", "undeclared"]

_MISSING: Final = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '?(?P<module>[A-Za-z0-9_]+)")
_LIKELY: Final = re.compile(r"depends on `(?P<module>[A-Za-z0-9._-]+)`, but doesn't declare it as a build dependency")
_OF_PYTHON: Final = frozenset({"distutils", "imp", "lib2to3"})
_LACKING: Final = re.compile(
    r"No such file or directory: '(?:[\w-]+-linux-gnu-)?(?P<run>[\w+-]+)'"
    r"|(?:command|execute) '(?:[\w-]+-linux-gnu-)?(?P<called>[\w+-]+)'(?: failed)?: No such file"
    r"|(?P<said>[\w-]+)(?:: | executable )not found"
    r"|(?P<named>Rust compiler|Cargo, the Rust package manager|Unknown compiler|CMake must be installed)"
    r"|fatal error: (?P<header>[\w./+-]+): No such file"
)
_C: Final = ("gcc", "libc6-dev", "python3-dev")
_OF_DEBIAN: Final = {
    **dict.fromkeys(("gcc", "cc", "Unknown compiler"), _C),
    **dict.fromkeys(("g++", "c++"), ("g++", "python3-dev")),
    **dict.fromkeys(("cargo", "rustc", "Rust compiler", "Cargo, the Rust package manager"), ("cargo",)),
    **dict.fromkeys(("cmake", "CMake must be installed"), ("cmake", "g++")),
    "pkg-config": ("pkg-config",),
    "pg_config": ("libpq-dev", *_C),
    "mysql_config": ("default-libmysqlclient-dev", *_C),
    "Python.h": ("python3-dev",),
    "ffi.h": ("libffi-dev",),
    "zlib.h": ("zlib1g-dev",),
    "libxml/xmlversion.h": ("libxml2-dev", "libxslt1-dev"),
    **dict.fromkeys(("openssl/opensslv.h", "openssl/ssl.h"), ("libssl-dev",)),
    **dict.fromkeys(("stdio.h", "stdlib.h", "limits.h", "assert.h"), ("libc6-dev",)),
}
"""What builds most often do not find, as they name it, and the packages of Debian and Ubuntu that have it."""

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
    packages = _packages_lacking(output)
    what = f"apt_install({json.dumps(packages)}) on Debian and Ubuntu" if packages else "compilers, libraries"
    return (
        f"ask for a version that has a wheel for this Python, or install what the build needs ({what}) in "
        "an earlier step; a build has no network"
    )


def _packages_lacking(output: str) -> list[str]:
    found = (match[match.lastgroup or 0] for match in _LACKING.finditer(output))
    return sorted({package for name in found for package in _OF_DEBIAN.get(name, ())})
