"""Runs in an environment under its own Python (3.8 or newer), with nothing of what is installed: compiles modules.

    REQUEST SOURCES OUT

REQUEST is JSON: for each tree of files its name and its modules, by their paths in the environment. A module is read
from SOURCES/tree/path, and its .pyc written to OUT/tree/path-of-the-pyc.

The .pyc are hash-based (PEP 552) and checked, so they hold no time, and an edited source is still noticed. They are
those of py_compile, which takes a tenth longer, as it writes beside and renames. Marshalling depends on which strings
the compiling process already knows, so the modules of a tree go in sorted chunks of a fixed size, each to a fresh fork
of one parent that has done nothing else: the result depends on the tree alone. A module that does not compile (a
template, a test of bad syntax) is left, as pip does. For each module a NUL is printed, so that they can be counted.
"""

# os.path: a script that starts fast on any Python from 3.8 on.

from __future__ import annotations

import gc
import importlib.util
import json
import marshal
import os
import sys
import warnings

CHUNK = 400
TOLD = 16
CHECKED_HASH = 0b11


def compile_chunk(sources: str, out: str, paths: list[str]) -> None:
    gc.disable()  # code has no cycles
    warnings.simplefilter("ignore")
    start = importlib.util.MAGIC_NUMBER + CHECKED_HASH.to_bytes(4, "little")
    made = ""
    for number, path in enumerate(paths, 1):
        if number % TOLD == 0 or number == len(paths):
            os.write(1, b"\0" * ((number - 1) % TOLD + 1))  # who reads them is woken each time
        with open(sources + path, "rb", 0) as file:
            source = file.read()
        try:
            code = marshal.dumps(compile(source, path, "exec", dont_inherit=True))
        except Exception:
            continue
        compiled = out + importlib.util.cache_from_source(path)
        folder = os.path.dirname(compiled)
        if folder != made:
            os.makedirs(folder, exist_ok=True)
            made = folder
        with open(compiled, "wb") as file:
            file.write(start + importlib.util.source_hash(source) + code)


def wait() -> int:
    return 0 if os.wait()[1] == 0 else 1


def main() -> int:
    request, sources, out = sys.argv[1:]
    with open(request, encoding="utf-8") as file:
        trees = json.load(file)
    width, running, failed = len(os.sched_getaffinity(0)), 0, 0
    for tree, paths in trees:
        for start in range(0, len(paths), CHUNK):
            if running == width:
                failed += wait()
                running -= 1
            if os.fork() == 0:
                try:
                    compile_chunk(os.path.join(sources, tree), os.path.join(out, tree), paths[start : start + CHUNK])
                    os._exit(0)
                finally:
                    os._exit(1)
            running += 1
    return 1 if failed + sum(wait() for _ in range(running)) else 0


if __name__ == "__main__":
    sys.exit(main())
