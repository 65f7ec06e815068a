"""klock: lock and replay Python environments in CPU and GPU containers.

    Image --lock--> Lockfile --plan--> Plan --replay--> environment --observe--> Observation --compare--> findings

    klock.image      what the user wants: `Image`, its steps, requirements, variables, secrets by reference
    klock.steps      all that is known of a kind of step: pip, apt, files, shell, variables, service
    klock.lockfile   the exact bytes of everything, as one committed text file
    klock.locking    an image in, a lockfile out
    klock.workshop   makes bases and layers; the only room that starts foreign programs
    klock.replay     the plan, as data, and carrying it out
    klock.places     where environments live: sandbox, podman, docker, here
    klock.drift      comparing what is there with what is locked; a difference is a finding
    klock.api        the verbs as functions; klock.commands only parses and prints

docs/architecture.md has the picture and the other rooms. In `kimage.py`:

    import klock as kt

    image = kt.images.Python312().pip_install(["numpy>=1.24"]).rsync("./src", "/app")
"""

from __future__ import annotations

from klock.version import __version__

# As `typing` has it, which every start of klock would pay for.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from klock import images
    from klock.api import Project, check, lock, plan, run, sync
    from klock.errors import KlockError
    from klock.findings import Finding
    from klock.image.builder import Image
    from klock.kubetorch import to_kubetorch
    from klock.outcomes import Checked, Locked, Synced
    from klock.questions import diff, status, tree, why

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
    "diff",
    "images",
    "lock",
    "plan",
    "run",
    "status",
    "sync",
    "to_kubetorch",
    "tree",
    "why",
]

_WHERE = {
    "Finding": "klock.findings",
    "Image": "klock.image.builder",
    "KlockError": "klock.errors",
    "to_kubetorch": "klock.kubetorch",
    **dict.fromkeys(("Checked", "Locked", "Synced"), "klock.outcomes"),
    **dict.fromkeys(("Project", "check", "lock", "plan", "run", "sync"), "klock.api"),
    **dict.fromkeys(("diff", "status", "tree", "why"), "klock.questions"),
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
