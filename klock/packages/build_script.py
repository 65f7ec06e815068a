"""Runs inside an environment and calls one hook of a project's build backend (PEP 517, PEP 660); the result is JSON.

argv[1] is a JSON file: `hook`, `kind`, `backend`, `backend_path`, `source` (an archive, or a folder), `copy` (of the
folder, to leave it as it is), `build` (where to unpack or copy to, always the same path, for compilers write it into
their output), `subdirectory`, `output` (a folder for wheels and metadata) and `result` (where the answer goes).
"""

# os.path: a script that starts fast on any Python from 3.8 on.

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import tarfile
import zipfile
from typing import Any

_NOT_COPIED = (".git", ".hg", ".venv", "__pycache__", "node_modules", ".tox", ".mypy_cache", "*.egg-info")


def prepare(request: dict[str, Any]) -> str:
    """The folder of the project, ready to be built in."""
    source: str = request["source"]
    build: str = request["build"]
    if source == build:
        folder = build
    elif os.path.isdir(source):
        if not request["copy"]:
            folder = source
        else:
            shutil.rmtree(build, ignore_errors=True)
            shutil.copytree(source, build, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
            folder = build
    else:
        shutil.rmtree(build, ignore_errors=True)
        os.makedirs(build)
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                archive.extractall(build)
        else:
            with tarfile.open(source) as archive:
                # Python 3.14 would change modes. Who packed it may do more here than unpack files.
                archive.extraction_filter = lambda member, path: member
                members = archive.getmembers()
                for member in members:  # else root extracts with the owners of whoever packed it
                    member.uid = member.gid = 0
                    member.uname = member.gname = ""
                archive.extractall(build, members)
        inside = [name for name in os.listdir(build) if os.path.isdir(os.path.join(build, name))]
        if len(inside) != 1:
            raise SystemExit(f"a source distribution has one folder, this one has {len(inside)}")
        folder = os.path.join(build, inside[0])
    return os.path.join(folder, request["subdirectory"] or "")


def call(request: dict[str, Any]) -> Any:
    os.chdir(prepare(request))
    for path in reversed(request["backend_path"]):
        sys.path.insert(0, os.path.abspath(path))
    module, _, attributes = request["backend"].partition(":")
    backend: Any = importlib.import_module(module)
    for attribute in attributes.split(".") if attributes else ():
        backend = getattr(backend, attribute)
    os.makedirs(request["output"], exist_ok=True)
    kind = request["kind"]
    if request["hook"] == "requires":
        hook = getattr(backend, f"get_requires_for_build_{kind}", None)
        return list(hook(None)) if hook else []
    if request["hook"] == "metadata":
        hook = getattr(backend, f"prepare_metadata_for_build_{kind}", None)
        if hook is not None:
            return hook(request["output"], None)
    hook = getattr(backend, f"build_{kind}", None)
    if hook is None:
        raise SystemExit(f"the build backend {request['backend']} cannot make {kind} installs")
    return hook(request["output"], None, None)


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    answer = call(request)
    with open(request["result"], "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
