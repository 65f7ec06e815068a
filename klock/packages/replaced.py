"""What of an environment goes when a distribution in it is replaced: the files that it says are its own.

As pip and uv do it: those that its RECORD names ("Recording installed projects"), with what was compiled of them, and
the folders that are empty then.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from klock.errors import ResolutionError
from klock.layers.composing import folders_of
from klock.layers.manifest import Kind, Manifest, escaped, unescaped
from klock.layers.rewriting.bytecode import source_of
from klock.packages.records import paths_in_record
from klock.packages.scheme import Scheme
from klock.project_names import normalised_name

__all__ = ["find_installed", "paths_to_remove"]

_INFO: Final = re.compile(rb"([^/ ]+)\.(dist-info|egg-info)(?:/[^/ ]*)? ")


def find_installed(names: Collection[str], scheme: Scheme, manifest: Manifest) -> list[str]:
    """The metadata folders (or files) of the distributions of these normalised names, which are in the folders of
    `scheme` in this manifest of a base or a layer: paths relative to the root, sorted."""
    found = set()
    for folder in {scheme.folders.purelib, scheme.folders.platlib}:
        start = escaped(folder.lstrip("/")) + b"/"
        for match in re.finditer(rb"^" + re.escape(start) + _INFO.pattern, manifest.to_bytes(), re.MULTILINE):
            stem = unescaped(match[1])
            if normalised_name(stem.partition("-")[0]) in names:
                found.add(f"{folder.lstrip('/')}/{stem}.{match[2].decode('ascii')}")
    return sorted(found)


def paths_to_remove(
    installed: Collection[str],
    present: Manifest,
    new: Iterable[str],
    read: Callable[[str], bytes | None],
    *,
    version: str,
) -> list[str]:
    """The paths of `present` that go with the distributions whose metadata is at `installed`, and that are not `new`.

    `read` reads a file of the environment by its absolute path. `version` is the Python's, which compiles new modules.
    Raises ResolutionError for a distribution that does not say what it holds.
    """
    gone = {path for info in installed for path in _files_of(info, present, read) if path in present}
    gone |= {path for path in present if source_of(path) in gone}
    new = {*new, *(bytecode_of(path, version) for path in new if path.endswith(".py"))}
    kept = {unescaped(path) for path in folders_of(map(escaped, new))}
    kept |= {unescaped(path) for path in folders_of(escaped(p) for p in present if _stays(p, present, gone))}
    empty = {unescaped(path) for path in folders_of(map(escaped, gone))} - kept
    # What is in a folder that goes needs no mention.
    return sorted(p for p in {*gone, *empty} if posixpath.dirname(p) not in empty and p not in new)


def bytecode_of(path: str, version: str) -> str:
    """Where CPython of this version has the compiled module of a source (PEP 3147)."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.cpython-{''.join(version.split('.')[:2])}.pyc"


def _stays(path: str, present: Manifest, gone: Collection[str]) -> bool:
    return path not in gone and present[path].kind is not Kind.FOLDER


def _files_of(info: str, present: Manifest, read: Callable[[str], bytes | None]) -> Iterator[str]:
    folder = posixpath.dirname(info)
    if info.endswith(".dist-info"):
        record = read(f"/{info}/RECORD")
        named = paths_in_record(record, f"/{folder}") if record is not None else []
    else:
        content = read(f"/{info}/installed-files.txt")
        lines = [] if content is None else content.decode("utf-8", "replace").splitlines()
        named = [posixpath.normpath(f"/{info}/{line}") for line in lines if line]
    if not named:
        raise ResolutionError(
            f"/{info} cannot be replaced: the distribution does not say which files are its own",
            hint="remove it in a step before: run_bash('...'); or ask for the version that is there",
        )
    yield from (path.lstrip("/") for path in named)
    yield from (path for path in present if path.startswith(f"{info}/"))
