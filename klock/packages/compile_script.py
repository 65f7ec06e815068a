"""Runs inside an environment and compiles installed modules to .pyc files that are the same bytes every time.

argv: a file that names distributions, one a line. Their .py files are taken from RECORD. The .pyc are hash-based (PEP
552) and checked, so they hold no time, and an edited source is still noticed. Marshalling depends on which strings the
compiling process already knows, so files go in sorted chunks of a fixed size, each to a fresh fork of one parent: the
result does not depend on the number of processors. A file that does not compile (a template, a test of bad syntax) is
left, as pip does.
"""

# ruff: noqa: PTH113
# os.path: a script that starts fast on any Python from 3.8 on.

from __future__ import annotations

import os
import py_compile
import re
import sys
from importlib import metadata

CHUNK = 200


def sources(names: set[str]) -> list[str]:
    found = set()
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name in names:
            names.discard(name)  # the first on sys.path is the installed one, another is the base's, out of sight
            for file in distribution.files or ():
                path = str(distribution.locate_file(file))
                if path.endswith(".py") and os.path.isfile(path):
                    found.add(os.path.normpath(path))
    return sorted(found)


def compile_chunk(paths: list[str]) -> None:
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    for path in paths:
        try:
            py_compile.compile(path, doraise=True, invalidation_mode=mode, quiet=2)
        except (py_compile.PyCompileError, ValueError, UnicodeError, RecursionError, MemoryError):
            continue


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as file:
        names = {line.strip() for line in file if line.strip()}
    paths = sources(names)
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    running: set[int] = set()
    failed = 0
    width = len(os.sched_getaffinity(0))
    while chunks or running:
        if chunks and len(running) < width:
            chunk = chunks.pop(0)
            child = os.fork()
            if child == 0:
                try:
                    compile_chunk(chunk)
                    os._exit(0)
                finally:
                    os._exit(1)
            running.add(child)
        else:
            child, status = os.wait()
            running.discard(child)
            failed |= status
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
