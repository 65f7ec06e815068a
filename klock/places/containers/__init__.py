"""The engines podman and docker: environments are images, and commands run in containers of them.

layers --archive--> image (load) --> a container for each command, removed when it ends
                      `--> containers that people start themselves
"""

from __future__ import annotations

from klock.places.containers.place import ContainerPlace

__all__ = ["ContainerPlace"]
