"""klock: lock and replay Python environments in CPU and GPU containers.

    Image -> lock -> Lockfile -> plan -> replay -> observation -> drift

    klock.image      what the user wants: `Image`, its steps, requirements, variables
    klock.secrets    what a credential is, and how it stays out of all that is written: by reference, or as `***`
    klock.bases      base images: registries, OCI layouts, the Debian archive
    klock.packages   Python packages: resolved, fetched and installed through uv
    klock.lockfile   the exact bytes of everything, as one committed text file
    klock.replay     the plan, and doing it; klock.places: where environments live
    klock.layers     a step's effect in one canonical form; an observation is made of the same manifests
    klock.drift      comparing what is there with what is locked; a difference is a finding

Imports run one way along that line. In `kimage.py`:

    import klock as kt

    image = kt.images.Python312().pip_install(["numpy>=1.24"]).rsync("./src", "/app")
"""

from __future__ import annotations

# As `typing` has it, which every start of klock would pay for.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from klock import images
    from klock.api import Checked, Locked, Project, Synced, check, lock, plan, run, sync
    from klock.errors import KlockError
    from klock.findings import Finding
    from klock.image.builder import Image

__all__ = [
    "Checked",
    "Finding",
    "Image",
    "KlockError",
    "Locked",
    "Project",
    "Synced",
    "__version__",
    "check",
    "images",
    "lock",
    "plan",
    "run",
    "sync",
]

__version__ = "0.1.0"

_API = ("Checked", "Locked", "Project", "Synced", "check", "lock", "plan", "run", "sync")
_WHERE = {
    "Finding": "klock.findings",
    "Image": "klock.image.builder",
    "KlockError": "klock.errors",
    **dict.fromkeys(_API, "klock.api"),
}


def __getattr__(name: str) -> Any:
    """Loads the public names when they are first used, so that the command line starts without them."""
    from importlib import import_module

    if name == "images":
        return import_module("klock.images")
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'klock' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
