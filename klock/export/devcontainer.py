"""devcontainer.json (containers.dev, "Dev Container metadata reference"): an editor in the locked environment."""

from __future__ import annotations

from typing import Any

from klock.lockfile.model import TargetLock
from klock.steps import kind_of
from klock.steps.service.export import START

__all__ = ["devcontainer"]

_FOLDER = "/work"


def devcontainer(lock: TargetLock, *, name: str, image: str | None = None) -> dict[str, Any]:
    """The document: of `image`, a name with a digest, or else of the Dockerfile beside it.

    The project's folder is at /work. The image's entrypoint is not what starts then, so services are started after it.
    """
    document: dict[str, Any] = {"name": name}
    if image is not None:
        document["image"] = image
    else:
        document["build"] = {"dockerfile": "Dockerfile", "context": "."}
    document["workspaceMount"] = f"source=${{localWorkspaceFolder}},target={_FOLDER},type=bind"
    document["workspaceFolder"] = _FOLDER
    if lock.user:
        document["remoteUser"] = lock.user.partition(":")[0]
        # Else files of the image would change their owner, and would not be what is locked.
        document["updateRemoteUserUID"] = False
    if lock.target.accelerator != "cpu":
        document["hostRequirements"] = {"gpu": True}
        document["runArgs"] = ["--gpus", "all"]
    # A pushed image has the program, too: `klock.registry.made`.
    if any(kind_of(step).is_service for step in lock.steps):
        document["postStartCommand"] = f"{START} true"
    if lock.interpreter is not None:
        settings = {"python.defaultInterpreterPath": lock.interpreter.path}
        document["customizations"] = {"vscode": {"extensions": ["ms-python.python"], "settings": settings}}
    return document
