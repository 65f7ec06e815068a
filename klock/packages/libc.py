"""Runs a program of glibc's in an environment that has another C library, or none: uv, on the musl of Alpine.

The program's loader and libraries are the host's own. They are mounted beside it for the length of the call, so that
nothing of them is in the environment, and only this one program is started with them.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Final

from klock.errors import EngineError
from klock.values import dataclass
from klock.workshop.protocol import Mount, Workspace

__all__ = ["Start", "start_of"]

_FOLDER: Final = "/run/klock/libc"
_LOADER: Final = re.compile(rb"/lib[^\0]*/ld-linux[^\0]*")  # PT_INTERP, in the first page of an ELF file
_LISTED: Final = re.compile(r"^\s*(?P<name>\S+)\s+=>\s+(?P<path>/.+?)\s+\(0x[0-9a-f]+\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a program is started there: `words` come before its own path, `mounts` are what they need."""

    words: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()


def start_of(program: Path, *, seen_as: str, workspace: Workspace) -> Start:
    """How to start the host's `program`, mounted at `seen_as`. Raises EngineError when its libraries are not found."""
    loader = _loader_of(program)
    if loader is None or b"GLIBC_2." in (workspace.read(loader) or b""):
        return Start()
    words = (f"{_FOLDER}/{Path(loader).name}", "--library-path", _FOLDER, "--argv0", seen_as)
    return Start(words=words, mounts=_libraries(program, loader))


def _loader_of(program: Path) -> str | None:
    """None for one that is linked statically, as builds for musl are."""
    with open(program, "rb") as file:
        found = _LOADER.search(file.read(4096))
    return found[0].decode("ascii") if found else None


@functools.lru_cache(maxsize=4)
def _libraries(program: Path, loader: str) -> tuple[Mount, ...]:
    listed = subprocess.run([loader, "--list", program], capture_output=True, text=True, check=False)
    paths = {found["name"]: Path(found["path"]) for found in _LISTED.finditer(listed.stdout)}
    if listed.returncode != 0 or not paths:
        raise EngineError(
            f"the libraries of {program} are not found: {listed.stdout}{listed.stderr}".strip(),
            hint="install klock again in its environment",
        )
    paths[Path(loader).name] = Path(loader)
    return tuple(Mount(source=path.resolve(), target=f"{_FOLDER}/{name}") for name, path in sorted(paths.items()))
