"""klock: lock and replay Python environments in CPU and GPU containers.

    Image -> lock -> Lockfile -> plan -> replay -> observation -> drift

    klock.image      what the user wants: `Image`, its steps, requirements, variables, secrets by reference
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
    from klock.errors import KlockError
    from klock.image.builder import Image

__all__ = ["Image", "KlockError", "__version__", "images"]

__version__ = "0.1.0"

_WHERE = {"Image": "klock.image.builder", "KlockError": "klock.errors"}


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
