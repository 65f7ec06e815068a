"""The container that this process runs in: whether it is one, and the variables it was given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["is_container", "own_variables"]

_VARIABLES: Final = ("container", "KUBERNETES_SERVICE_HOST")
"""Variables that systemd's container interface and Kubernetes set. Users may set the first one by hand."""
_FILES: Final = (".dockerenv", "run/.containerenv")
_OF_ENGINES: Final = ("overlay", "fuse.fuse-overlayfs")


def is_container(environ: Mapping[str, str], *, root: Path = Path("/")) -> bool:
    """Looks for traces of engines: variables, files, or a root of layers (proc_pid_mounts(5))."""
    if any(environ.get(name) for name in _VARIABLES) or any((root / name).exists() for name in _FILES):
        return True
    try:
        mounts = (root / "proc/self/mounts").read_bytes()
    except OSError:
        return False
    fields = [os.fsdecode(line).split(" ") for line in mounts.splitlines()]
    return any(kind in _OF_ENGINES for _, place, kind, *_ in fields if place == "/")


def own_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` as the container gave it: where its locale is C, Python sets LC_CTYPE for itself (PEP 538)."""
    given = dict(environ)
    given.pop("LC_CTYPE", None)
    for variable in Path("/proc/self/environ").read_bytes().split(b"\0"):
        name, _, value = variable.partition(b"=")
        if name == b"LC_CTYPE":
            given["LC_CTYPE"] = os.fsdecode(value)
    return given
