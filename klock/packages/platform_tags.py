"""Markers (PEP 508) and wheel tags (PEP 425, 600, 656) of a CPython that does not run here.

`packaging` computes both for the Python it runs under; here its rules are told what that Python is. The order of the
tags is its order: the best first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging import tags

__all__ = ["markers_of", "tags_of", "uv_platform"]

_OLDEST_GLIBC: Final = {"x86_64": 5, "aarch64": 17}
_UV_GLIBC: Final = (*range(40, 30, -1), 28, 17, 0)
"""The minor versions of glibc that uv's platforms are named by."""
_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def markers_of(version: str, machine: str) -> dict[str, str]:
    """Of CPython `version` on Linux. What differs between two hosts of one kind is empty."""
    major, minor = version.split(".")[:2]
    return {
        "implementation_name": "cpython",
        "implementation_version": version,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": version,
        "python_version": f"{major}.{minor}",
        "sys_platform": "linux",
    }


def tags_of(release: tuple[int, int], *, threads: str, machine: str, libc: str) -> tuple[str, ...]:
    """`threads` is `t` for a Python without the global lock; `libc` as in `Interpreter`."""
    major, minor = release
    platforms = list(_platforms(machine, libc))
    abi = f"cp{major}{minor}{threads}"
    own = tags.cpython_tags(python_version=release, abis=[abi], platforms=platforms)
    rest = tags.compatible_tags(python_version=release, interpreter=f"cp{major}{minor}", platforms=platforms)
    return tuple(str(tag) for tag in (*own, *rest))


def _platforms(machine: str, libc: str) -> Iterator[str]:
    yield f"linux_{machine}"
    name, _, version = libc.partition(" ")
    minor = int(version.partition(".")[2] or 0)
    if name == "glibc":
        for each in range(minor, _OLDEST_GLIBC.get(machine, 17) - 1, -1):
            yield f"manylinux_2_{each}_{machine}"
            if each in _LEGACY:
                yield f"{_LEGACY[each]}_{machine}"
    elif name == "musl":
        for each in range(minor, -1, -1):
            yield f"musllinux_1_{each}_{machine}"


def uv_platform(machine: str, libc: str) -> str:
    """The platform in uv's words that takes no wheel which this one does not take."""
    name, _, version = libc.partition(" ")
    if name == "musl":
        return f"{machine}-unknown-linux-musl"
    minor = int(version.partition(".")[2] or 0)
    return f"{machine}-manylinux_2_{next(each for each in _UV_GLIBC if each <= minor)}"
