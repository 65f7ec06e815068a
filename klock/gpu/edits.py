"""What a container needs to use a device, as data: the container edits of the Container Device Interface (CDI).

Field for field the specification's `containerEdits` (cncf-tags/container-device-interface, SPEC.md, 0.8.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from klock.values import dataclass, field

__all__ = ["NO_DEVICES", "ContainerEdits", "DeviceMount", "DeviceNode", "Devices", "Hook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device node at `path` in the container. `host_path` is where the host has it, when that is another path.

    `permissions` are those of the device cgroup: `r`, `w`, `m`. What is None is the host's own.
    """

    path: str
    host_path: str | None = None
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    permissions: str | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMount:
    """A file or folder of the host at `container_path`; `options` are those of mount(8), such as `ro` and `nosuid`."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A program of the host that runs when a container is made (OCI runtime-spec, config.md, "POSIX-platform Hooks").

    `name` is `createContainer` and so on, `arguments` begin with the program's own name, `timeout` is in seconds.
    """

    name: str
    path: str
    arguments: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    timeout: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEdits:
    environment: Mapping[str, str] = field(default_factory=dict)
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[DeviceMount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    additional_gids: tuple[int, ...] = ()

    def __add__(self, other: ContainerEdits) -> ContainerEdits:
        """Both, one after the other; what both have is there once."""
        return ContainerEdits(
            environment={**self.environment, **other.environment},
            device_nodes=tuple(dict.fromkeys(self.device_nodes + other.device_nodes)),
            mounts=tuple(dict.fromkeys(self.mounts + other.mounts)),
            hooks=tuple(dict.fromkeys(self.hooks + other.hooks)),
            additional_gids=tuple(dict.fromkeys(self.additional_gids + other.additional_gids)),
        )


NO_DEVICES: Final = ContainerEdits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The devices a command sees. `edits` says how, complete and merged.

    `names` are their fully qualified CDI names (`nvidia.com/gpu=0`), for engines that read CDI specifications
    themselves; empty when the machine has no specification and `edits` were found by looking.
    """

    names: tuple[str, ...]
    edits: ContainerEdits
