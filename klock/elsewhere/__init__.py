"""klock itself in a container of podman or docker, where the machine can make no sandbox: a laptop, a guarded host.

    command line --project and variables, as archives--> container: klock, its store on a volume --changed files--> here

Only the engine's API is used, so it may be in a virtual machine or on another host: nothing is mounted from here. What
klock does in there is what it does on any Linux, so the lockfile is the same to the byte.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from klock.errors import KlockError

if TYPE_CHECKING:
    from klock.progress import Progress

__all__ = ["ENGINES", "VARIABLE", "asked_for", "run_elsewhere"]

VARIABLE = "KLOCK_WORKSHOP"
ENGINES = ("podman", "docker")
_HOSTS = {"CONTAINER_HOST": "podman", "DOCKER_HOST": "docker"}
_VERBS = ("lock", "sync", "run", "shell", "check", "status", "add", "remove", "push", "pull", "logs", "cache")
"""What needs a sandbox, or the store that is in there."""


def asked_for(arguments: Sequence[str]) -> str | None:
    """The engine that a command line is to be run in. Raises KlockError for an unknown engine.

    Unasked, klock goes where the variable of an engine leads, if this machine lets it make no sandbox.
    """
    asked = os.environ.get(VARIABLE, "")
    verb = next((word for word in arguments if not word.startswith("-")), None)
    if verb not in _VERBS or {"-h", "--help"} & set(arguments):
        return None
    if sys.platform == "linux" and asked in ("", "sandbox"):
        return None if asked else _engine_at_hand(arguments)
    if asked in ("", "sandbox"):
        raise KlockError(
            f"klock {verb} needs Linux, and this machine is {sys.platform}",
            hint=f"have docker or podman run klock in a container: set {VARIABLE}=docker or {VARIABLE}=podman",
        )
    if asked not in ENGINES:
        raise KlockError(f"{VARIABLE} is {asked!r}", hint=f"set it to {' or '.join(ENGINES)}, or to sandbox")
    return asked


def _engine_at_hand(arguments: Sequence[str]) -> str | None:
    """The engine that a variable leads to, where there is no sandbox and the user names no other place."""
    variable, engine = next((each for each in _HOSTS.items() if os.environ.get(each[0])), (None, None))
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    is_named = any(word in ("--here", "--engine") or word.startswith("--engine=") for word in words)
    if engine is None or is_named or os.environ.get("KLOCK_ENGINE"):
        return None
    from klock.project import load_settings
    from klock.workshop.namespace import are_namespaces_allowed

    if are_namespaces_allowed() or load_settings(Path.cwd()).engine is not None:
        return None
    from klock.printing import say_note

    say_note(
        f"this machine does not let klock make a user namespace, so klock runs in a container of {engine}, which "
        f"{variable} names; to hide this note, set {VARIABLE}={engine}"
    )
    return engine


def run_elsewhere(engine: str, arguments: Sequence[str], progress: AbstractContextManager[Progress]) -> int:
    """Runs the command line in a container, with this process's streams; its status. Raises KlockError.

    `progress` shows what is made before the command starts, and is closed before the command prints.
    """
    from klock.elsewhere.command import run_in_workshop

    return run_in_workshop(engine, arguments, progress)
