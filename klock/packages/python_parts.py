"""What the bytecode that an environment's Python makes depends on: the Python itself, and the libraries it loads.

Most layers below a pip step bring nothing of that, such as another pip step's or a copied project: a change of them
must not have every module compiled again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Final

from klock.digests import Digest
from klock.layers.manifest import Manifest, escaped
from klock.lockfile.model import Interpreter

__all__ = ["compiled_by"]

_SYSTEM: Final = ("usr", "lib", "lib32", "lib64", "libx32", "bin", "sbin", "etc")
"""Where programs load libraries and settings from."""


def compiled_by(interpreter: Interpreter, base: Digest, below: Iterable[tuple[Digest, Manifest]]) -> list[object]:
    """`below` are the layers between the base and the step, with their manifests."""
    own = [digest for digest, manifest in below if _may_matter(interpreter, manifest)]
    return [interpreter.path, interpreter.version, interpreter.sha256, base, own]


def _may_matter(interpreter: Interpreter, manifest: Manifest) -> bool:
    folders = interpreter.folders
    if folders is None:
        return True
    packages = (folders.purelib, folders.platlib, folders.headers, f"{folders.data}/share")
    harmless = _starts(packages)
    system = _starts([*(f"/{name}" for name in _SYSTEM), folders.data, posixpath.dirname(interpreter.path)])
    scripts, python = _starts([folders.scripts]), _starts([f"{folders.scripts}/python"], end=b"")
    for line in manifest.lines():
        if not line.startswith(system) or line.startswith(harmless):
            continue
        is_script = line.startswith(scripts) and not line.startswith(python)
        if not is_script and line.split(b" ", 2)[1] != b"dir":
            return True
    return False


def _starts(folders: Iterable[str], *, end: bytes = b"/") -> tuple[bytes, ...]:
    return tuple(escaped(folder.lstrip("/")) + end for folder in folders)
