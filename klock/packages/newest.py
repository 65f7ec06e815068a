"""Which versions of locked packages there are now: the newest of all, and the newest that the image's words admit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Final

from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from klock.errors import EngineError
from klock.lockfile.model import Interpreter
from klock.packages.index_pages import PageFile
from klock.packages.interpreter import InstalledDistribution, TargetPython
from klock.packages.platform_tags import markers_of, tags_of
from klock.packages.question import Question, World
from klock.packages.resolver import Resolver

__all__ = ["admitted_versions", "newest_version", "python_of", "version_of_file"]

_RELEASE: Final = re.compile(r"(\d+)\.(\d+)\.\d+")
_THREADS: Final = re.compile(r"/python\d+\.\d+(t?)/")


def admitted_versions(question: Question, world: World) -> dict[str, str]:
    """By project, what resolving `question` gives now: nothing is fetched but metadata, nothing is built.

    Raises KlockError where uv finds no answer, or finds one only by building something.
    """
    resolver = Resolver(world=world, question=question, credentials=question.collect_credentials(world), preferences={})
    answer = resolver.ask(question.requests)
    return {package.name: package.version for package in answer.packages if package.version is not None}


def newest_version(project: str, files: Iterable[PageFile], *, locked: str) -> str | None:
    """The newest version that has a file which is not yanked; a pre-release only if a pre-release is locked, or there
    is nothing else (as pip and uv choose)."""
    found = {version for file in files if file.yanked is None if (version := version_of_file(file.name, project))}
    final = {version for version in found if not version.is_prerelease}
    with contextlib.suppress(InvalidVersion):
        if Version(locked).is_prerelease:
            final = found
    return str(max(final or found, default="")) or None


def version_of_file(name: str, project: str) -> Version | None:
    """The version that a file's name tells; None for a file of another project, and for other kinds of files."""
    try:
        if name.endswith(".whl"):
            found, version, *_ = parse_wheel_filename(name)
        elif name.endswith((".tar.gz", ".zip")):
            found, version = parse_sdist_filename(name)
        else:
            return None
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    return version if found == project else None


def python_of(interpreter: Interpreter, *, machine: str) -> TargetPython:
    """A locked Python as resolving needs it, from what the lockfile says alone. `machine` is the kernel's name of the
    architecture. What base packages depend on is not known. Raises EngineError for a Python that is not CPython."""
    release = _RELEASE.match(interpreter.version)
    if release is None or interpreter.implementation != "cpython":
        raise EngineError(f"klock cannot tell what fits {interpreter.implementation} {interpreter.version}")
    folder = interpreter.folders.platlib if interpreter.folders is not None else ""
    threads = match[1] if (match := _THREADS.search(f"{folder}/")) else ""
    return TargetPython(
        interpreter=interpreter,
        markers=markers_of(interpreter.version, machine),
        tags=tags_of((int(release[1]), int(release[2])), threads=threads, machine=machine, libc=interpreter.libc),
        installed=tuple(
            InstalledDistribution(name=each.name, version=each.version) for each in interpreter.distributions
        ),
    )
