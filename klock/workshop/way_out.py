"""What to do where this machine lets klock make no sandbox at all: the same words wherever that turns out."""

from __future__ import annotations

from typing import Final

__all__ = ["IN_A_CONTAINER", "WAY_OUT"]

IN_A_CONTAINER: Final = (
    "in a container klock needs --security-opt seccomp=unconfined, and podman's unmask=ALL or docker's "
    "systempaths=unconfined"
)
WAY_OUT: Final = "or have docker or podman run klock in a container: set KLOCK_WORKSHOP=docker or KLOCK_WORKSHOP=podman"
