"""Whether this process runs in a container: before klock changes a root file system, that should be one's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["is_container"]

_VARIABLES: Final = ("container", "KUBERNETES_SERVICE_HOST")
"""What systemd's container interface and Kubernetes set. Who knows better sets the first one by hand."""
_FILES: Final = (".dockerenv", "run/.containerenv")
_OF_ENGINES: Final = ("overlay", "fuse.fuse-overlayfs")


def is_container(environ: Mapping[str, str], *, root: Path = Path("/")) -> bool:
    """By what engines leave behind: variables, files, or a root of layers (proc_pid_mounts(5))."""
    if any(environ.get(name) for name in _VARIABLES) or any((root / name).exists() for name in _FILES):
        return True
    try:
        mounts = (root / "proc/self/mounts").read_bytes()
    except OSError:
        return False
    fields = [os.fsdecode(line).split(" ") for line in mounts.splitlines()]
    return any(kind in _OF_ENGINES for _, place, kind, *_ in fields if place == "/")
