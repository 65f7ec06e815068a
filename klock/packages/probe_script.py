"""Runs inside an environment, under its own Python (3.8 or newer), and writes what that Python is as JSON to argv[1].

`klock.packages.interpreter` starts it in isolated mode with the `packaging` library at /run/klock/lib, so that markers
and wheel tags are computed by the Python that will use them, never by the one klock runs on.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from typing import Any


def libc() -> str:
    name, version = platform.libc_ver()
    if name == "glibc":
        return "glibc " + version
    try:
        from packaging._musllinux import _get_musl_version

        musl = _get_musl_version(sys.executable)
    except Exception:  # a private function of a library that may change: knowing no libc is allowed
        musl = None
    return "musl {}.{}".format(musl.major, musl.minor) if musl else ""  # noqa: UP032


def distributions(canonicalize_name: Callable[[str], str]) -> list[dict[str, Any]]:
    """The first distribution of each name on sys.path is the one imports see."""
    found: dict[str, dict[str, Any]] = {}
    for distribution in metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if not name or not version:
            continue
        name = canonicalize_name(name)
        if name not in found:
            extras = distribution.metadata.get_all("Provides-Extra") or []
            requires = distribution.requires or []
            found[name] = {"name": name, "version": version, "requires": requires, "extras": extras}
    return [found[name] for name in sorted(found)]


def folders() -> dict[str, str]:
    """Where wheels go, by the names of the wheel format, without symlinks."""
    paths = sysconfig.get_paths()
    if sys.prefix == sys.base_prefix:
        headers = paths["include"]
    else:  # in a virtual environment they are not the base Python's
        headers = os.path.join(sys.prefix, "include", "site", "python%d.%d" % sys.version_info[:2])  # noqa: UP031
    found = {name: paths[name] for name in ("purelib", "platlib", "scripts", "data")}
    return {name: os.path.realpath(path) for name, path in dict(found, headers=headers).items()}


def links(data: str) -> dict[str, str]:
    """The folders in `data` that are symlinks, with what they lead to."""
    try:
        names = sorted(os.listdir(data))
    except OSError:
        return {}
    paths = [os.path.join(data, name) for name in names]
    return {path: os.path.realpath(path) for path in paths if os.path.islink(path) and os.path.isdir(path)}


def main() -> None:
    sys.path.insert(0, "/run/klock/lib")
    from packaging.markers import default_environment
    from packaging.tags import sys_tags
    from packaging.utils import canonicalize_name

    with open(os.path.realpath(sys.executable), "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    # What differs between two hosts of one kind must not decide what is installed.
    markers = dict(default_environment(), platform_release="", platform_version="")
    tags = [str(tag) for tag in sys_tags()]
    sys.path.remove("/run/klock/lib")
    result = {
        "path": sys.executable,
        "version": platform.python_version(),
        "implementation": sys.implementation.name,
        "libc": libc(),
        "sha256": digest,
        "markers": {name: value for name, value in markers.items() if name != "extra"},
        "tags": tags,
        "folders": folders(),
        "links": links(folders()["data"]),
        "distributions": distributions(canonicalize_name),
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
