"""Runs inside an environment and compiles installed modules to .pyc files that are the same bytes every time.

    list NAMES OUT           as the environment's Python: finds the modules of each distribution that NAMES lists
    compile OUT ARCHIVES     without what is installed (-S): compiles what OUT lists, or takes it from ARCHIVES

In OUT, `NAME.sources` has the paths, each ended by a zero byte, and `NAME.zip` the .pyc files by their sources' paths.

The .pyc are hash-based (PEP 552) and checked, so they hold no time, and an edited source is still noticed. Marshalling
depends on which strings the compiling process already knows, so the files of a distribution go in sorted chunks of a
fixed size, each to a fresh fork of one parent that has done nothing else: the result depends on the distribution alone.
A file that does not compile (a template, a test of bad syntax) is left, as pip does.
"""

# ruff: noqa: PTH103, PTH105, PTH110, PTH113, PTH118, PTH120, PTH208
# os.path: a script that starts fast on any Python from 3.8 on.

from __future__ import annotations

import importlib.util
import os
import py_compile
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Callable

CHUNK = 200
_STALE = 3
"""The exit status of a fork that found an archive of other sources."""


# -- list


def normalised_name(name: str) -> str:
    """As `klock.project_names` has it, which cannot be imported here."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write_sources(names: set[str], out: str) -> None:
    from importlib import metadata

    for distribution in metadata.distributions():
        name = normalised_name(distribution.metadata["Name"] or "")
        if name in names:
            names.discard(name)  # the first on sys.path is the installed one, another is the base's, out of sight
            found = {
                os.path.normpath(path)
                for path in (str(distribution.locate_file(file)) for file in distribution.files or ())
                if path.endswith(".py") and os.path.isfile(path)
            }
            with open(os.path.join(out, name + ".sources"), "wb") as file:
                file.write(b"".join(os.fsencode(path) + b"\0" for path in sorted(found)))


# -- compile


def read_sources(path: str) -> list[str]:
    with open(path, "rb") as file:
        return [os.fsdecode(path) for path in file.read().split(b"\0")[:-1]]


def compile_chunk(paths: list[str]) -> None:
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    for path in paths:
        try:
            py_compile.compile(path, doraise=True, invalidation_mode=mode, quiet=2)
        except (py_compile.PyCompileError, ValueError, UnicodeError, RecursionError, MemoryError):
            continue


def pack(paths: list[str], archive: str) -> None:
    with zipfile.ZipFile(archive, "w") as output:
        for path in paths:
            compiled = importlib.util.cache_from_source(path)
            if os.path.isfile(compiled):
                with open(compiled, "rb") as file:
                    output.writestr(zipfile.ZipInfo(path.lstrip("/")), file.read())


def unpack(paths: list[str], archive: str) -> None:
    """Ends the process with _STALE when the archive is damaged, or a module is not the one that was compiled."""
    try:
        with zipfile.ZipFile(archive) as members:
            known = set(members.namelist())
            for path in paths:
                if path.lstrip("/") in known:
                    _put(path, members.read(path.lstrip("/")))
    except (zipfile.BadZipFile, ValueError, EOFError):
        os._exit(_STALE)


def _put(path: str, content: bytes) -> None:
    """Writes a .pyc as `py_compile` does, whose bytes 8 to 16 are the hash of its source (PEP 552)."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if content[8:16] != importlib.util.source_hash(file.read()):
            raise ValueError(path)
    compiled = importlib.util.cache_from_source(path)
    os.makedirs(os.path.dirname(compiled), exist_ok=True)
    partial = compiled + ".partial"
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, status.st_mode & 0o666 | 0o200), "wb") as file:
        file.write(content)
    os.replace(partial, compiled)


class Forks:
    """Calls functions in forks of this process, as many at once as there are processors."""

    def __init__(self) -> None:
        self._width = len(os.sched_getaffinity(0))
        self._running: dict[int, str] = {}
        self.status: dict[str, int] = {}

    def start(self, label: str, function: Callable[..., None], *arguments: object) -> None:
        while len(self._running) >= self._width:
            self._wait()
        child = os.fork()
        if child == 0:
            try:
                function(*arguments)
                os._exit(0)
            finally:
                os._exit(1)
        self._running[child] = label

    def wait(self) -> None:
        while self._running:
            self._wait()

    def _wait(self) -> None:
        child, status = os.wait()
        label = self._running.pop(child)
        self.status[label] = max(self.status.get(label, 0), os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def compile_all(out: str, archives: str) -> int:
    names = sorted(name[: -len(".sources")] for name in os.listdir(out) if name.endswith(".sources"))
    sources = {name: read_sources(os.path.join(out, name + ".sources")) for name in names}
    # Two forks must not compile one path at the same time, and what it becomes depends on both distributions.
    owners = Counter(path for paths in sources.values() for path in paths)
    sharing = {name for name in names if any(owners[path] > 1 for path in sources[name])}
    forks = Forks()
    kept = [n for n in names if n not in sharing and os.path.exists(os.path.join(archives, n + ".zip"))]
    for name in kept:
        forks.start(name, unpack, sources[name], os.path.join(archives, name + ".zip"))
    forks.wait()
    stale = [name for name in kept if forks.status.pop(name) != 0]
    new = [name for name in names if name not in kept or name in stale]
    begun: set[str] = set()
    for name in new:
        paths = [path for path in sources[name] if path not in begun]
        begun.update(paths)
        for start in range(0, len(paths), CHUNK):
            forks.start(name, compile_chunk, paths[start : start + CHUNK])
    forks.wait()
    for name in (name for name in new if name not in sharing):
        forks.start(name, pack, sources[name], os.path.join(out, name + ".zip"))
    forks.wait()
    return 1 if any(forks.status.values()) else 0


def main() -> int:
    verb, first, second = sys.argv[1:]
    if verb == "compile":
        return compile_all(first, second)
    with open(first, encoding="utf-8") as file:
        write_sources({line.strip() for line in file if line.strip()}, second)
    return 0


if __name__ == "__main__":
    sys.exit(main())
