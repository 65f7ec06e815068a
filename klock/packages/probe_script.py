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
from pathlib import Path
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


def main() -> None:
    sys.path.insert(0, "/run/klock/lib")
    from packaging.markers import default_environment
    from packaging.tags import sys_tags
    from packaging.utils import canonicalize_name

    with open(os.path.realpath(sys.executable), "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    markers = dict(default_environment())
    tags = [str(tag) for tag in sys_tags()]
    sys.path.remove("/run/klock/lib")
    stdlib = sysconfig.get_path("stdlib")
    result = {
        "path": sys.executable,
        "version": platform.python_version(),
        "implementation": sys.implementation.name,
        "libc": libc(),
        "sha256": digest,
        "markers": {name: value for name, value in markers.items() if name != "extra"},
        "tags": tags,
        "paths": {name: sysconfig.get_path(name) for name in ("purelib", "platlib", "scripts", "data", "stdlib")},
        "externally_managed": sys.prefix == sys.base_prefix and Path(stdlib, "EXTERNALLY-MANAGED").is_file(),
        "distributions": distributions(canonicalize_name),
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
