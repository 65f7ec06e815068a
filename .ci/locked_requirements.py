"""Prints the packages that kimage.lock has as a requirements file with hashes, for `uv pip install --require-hashes`.

    python3 .ci/locked_requirements.py kimage.lock

Runs before klock and its dependencies are installed, with the Python that gets them: the standard library is all there
is. A lockfile names one wheel for each package, chosen for one platform and one Python. Exit status 3 says that this
Python is another one; the reason is on stderr.
"""

from __future__ import annotations

import platform
import sys
import tomllib
from pathlib import Path
from typing import Any

DOES_NOT_FIT = 3

_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}


def misfit(lock: dict[str, Any]) -> str | None:
    """Why the locked wheels do not all fit the Python that runs this; None when they do.

    Another patch release fits, and so does a newer glibc: both run what was built for an older one (PEP 600).
    """
    (python,) = lock["python"]
    platforms = sorted({target.rpartition("/")[0] for target in lock["targets"]})
    locked = f"{python['implementation']} {_minor(python['version'])}"
    here = f"{sys.implementation.name} {_minor(platform.python_version())}"
    if (
        locked == here
        and sys.platform == "linux"
        and platform.machine() in {_MACHINES[name] for name in platforms}
        and _at_least(" ".join(platform.libc_ver()), python["libc"])
    ):
        return None
    return (
        f"kimage.lock is for {locked} on {' and '.join(platforms)} with {python['libc']} or newer, "
        f"and {sys.executable} is {here} on {platform.platform()}"
    )


def requirements(lock: dict[str, Any]) -> list[str]:
    """A line for each package: its version and the SHA-256 of its one wheel. Raises ValueError for anything else."""
    lines = []
    for package in lock["packages"]:
        name, version, wheels = package["name"], package["version"], package.get("wheels", [])
        if "index" not in package or len(wheels) != 1:
            raise ValueError(f"{name} {version} is not locked as one wheel of an index")
        lines.append(f"{name}=={version} --hash=sha256:{wheels[0]['hashes']['sha256']}")
    return lines


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _at_least(libc: str, locked: str) -> bool:
    """Whether `glibc 2.36` is the same C library as the locked one, at its version or a newer one."""
    (name, _, version), (locked_name, _, locked_version) = libc.partition(" "), locked.partition(" ")
    return name == locked_name and _numbers(version) >= _numbers(locked_version)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def main(path: str) -> int:
    lock = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    if reason := misfit(lock):
        print(f"note: {reason}; what pyproject.toml allows is installed instead, without hashes", file=sys.stderr)
        return DOES_NOT_FIT
    print("\n".join(requirements(lock)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
