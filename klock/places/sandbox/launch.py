"""A command of an environment as a launch: all that starts it again, where nothing else has changed, as text.

`klock run` notes it beside its answer (`klock.unchanged`), so that the next one reads neither image nor lockfile. It
holds no secret: who has one gets no launch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from klock.places.sandbox.writable import SandboxEnvironment
from klock.store import Store
from klock.workshop.command import Command, Mount, Network
from klock.workshop.trees import Trees

__all__ = ["launch_of", "may_start", "start"]


def launch_of(name: str, command: Command, *, ca_bundle: Path | None) -> str | None:
    """What starts a command in the environment `name`, without its words; None for one that needs more than this."""
    plain = Command(
        argv=command.argv,
        environment=command.environment,
        working_dir=command.working_dir,
        makes_working_dir=command.makes_working_dir,
        user=command.user,
        network=command.network,
        mounts=command.mounts,
    )
    if command != plain or not isinstance(command.network, Network):
        return None
    return json.dumps(
        {
            "name": name,
            "ca_bundle": None if ca_bundle is None else str(ca_bundle),
            "environment": dict(command.environment),
            "working_dir": command.working_dir,
            "makes_working_dir": command.makes_working_dir,
            "user": command.user,
            "network": command.network.value,
            "mounts": [[str(mount.source), mount.target, mount.read_only] for mount in command.mounts],
        }
    )


def may_start(launch: str) -> bool:
    """Whether the files of the machine that a launch names are there."""
    given = json.loads(launch)
    paths = [source for source, _, _ in given["mounts"]] + ([given["ca_bundle"]] if given["ca_bundle"] else [])
    return all(map(os.path.exists, paths))


def start(launch: str, argv: Sequence[str]) -> int:
    """Runs a command as the launch says, on this process's streams, to its end; returns its status."""
    given = json.loads(launch)
    store = Store()
    environment = SandboxEnvironment(
        given["name"],
        store=store,
        trees=Trees(store),
        ca_bundle=None if given["ca_bundle"] is None else Path(given["ca_bundle"]),
    )
    command = Command(
        argv=tuple(argv),
        environment=given["environment"],
        working_dir=given["working_dir"],
        makes_working_dir=given["makes_working_dir"],
        user=given["user"],
        network=Network(given["network"]),
        mounts=tuple(
            Mount(source=Path(source), target=target, read_only=read_only)
            for source, target, read_only in given["mounts"]
        ),
    )
    return environment.execute(command)
