"""devcontainer.json: of the pushed image, or of the Dockerfile beside it."""

from __future__ import annotations

from dataclasses import replace

from klock.export.devcontainer import devcontainer
from klock.lockfile.model import ServiceLock, SettingsLock
from klock.targets import Target
from tests.test_lockfile import SMALL
from tests.test_upstream_outdated import PYTHON

LOCK = SMALL.targets[0]
MOUNT = {"workspaceMount": "source=${localWorkspaceFolder},target=/work,type=bind", "workspaceFolder": "/work"}


def test_the_least() -> None:
    built = {"build": {"dockerfile": "Dockerfile", "context": "."}}
    assert devcontainer(LOCK, name="x") == {"name": "x", **built, **MOUNT}
    assert devcontainer(LOCK, name="x", image="r/n@sha256:1") == {"name": "x", "image": "r/n@sha256:1", **MOUNT}


def test_all_of_it() -> None:
    steps = (*LOCK.steps, SettingsLock(user="app:staff"), ServiceLock(command="serve &"))
    lock = replace(LOCK, steps=steps, interpreter=PYTHON, target=Target.parse("linux/amd64/cuda12.4"))
    document = devcontainer(lock, name="x")
    assert (document["remoteUser"], document["updateRemoteUserUID"]) == ("app", False)
    assert (document["hostRequirements"], document["runArgs"]) == ({"gpu": True}, ["--gpus", "all"])
    assert document["postStartCommand"] == "/usr/local/lib/klock/start true"
    assert document["customizations"]["vscode"]["settings"] == {"python.defaultInterpreterPath": "/usr/bin/python3"}
    pushed = devcontainer(lock, name="x", image="r/n@sha256:1")
    assert pushed["postStartCommand"] == document["postStartCommand"], "a pushed image has that program"
