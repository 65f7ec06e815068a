"""The engines podman and docker: steps run in the sandbox, as everywhere, and the layers they make become an image.

One place where steps run means one set of bytes, and the same guarantees: no network but the recorder, no rights over
the host. What a container then really holds is observed and compared like any environment.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.digests import Digest, digest_of_stream
from klock.layers.manifest import Manifest
from klock.places import environment_of, note_of
from klock.places.containers.connection import Connection, connect, docker_package, explained, settings_files
from klock.places.containers.environment import ContainerEnvironment, Layers
from klock.places.containers.image import LABEL, Archive
from klock.places.containers.owners import may_be_alive
from klock.store import Store
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import ImageConfig
from klock.workshop.scratch import scratch_folder

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["ContainerEngine"]

_MOST_LAYERS: Final = 120
"""docker takes up to 125, and podman makes images of more, but no containers of them."""

_READ_BY_ENGINES: Final = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


class ContainerEngine(SandboxWorkshop):
    """`klock.workshop.protocol.Engine` whose environments are images of podman or docker."""

    def __init__(self, name: str, store: Store, *, ca_bundle: Path | None = None) -> None:
        super().__init__(store, ca_bundle=ca_bundle)
        self.name = name
        self._connection: Connection | None = None

    def check(self) -> None:
        """Raises EngineError when the sandbox cannot run here, or the engine does not answer."""
        super().check()
        self._api()

    def environment(self, name: str) -> ContainerEnvironment:  # type: ignore[override]
        return ContainerEnvironment(
            name,
            engine=self.name,
            api=self._api,
            layers=Layers(archives=self._archives, manifest=self._manifest),
            state=self._store.environment_path(note_of(self.name, name)),
            ca_bundle=self._ca_bundle,
        )

    def remove_leftovers(self) -> int:
        """Removes klock's images that no environment's name leads to, and containers whose klock was killed; returns
        how many. What others made stays, and so do containers that were started from klock's images."""
        docker = docker_package(self.name)

        api, removed = self._api(), 0
        with explained(self.name):
            for container in api.containers(all=True, filters={"label": f"{LABEL}.run"}):
                owner = container["Labels"][f"{LABEL}.run"]
                if not may_be_alive(owner, container_runs=container["State"] == "running"):
                    api.remove_container(container["Id"], force=True, v=True)
                    removed += 1
            for image in api.images(filters={"label": f"{LABEL}.fingerprint", "dangling": True}):
                with contextlib.suppress(docker.errors.APIError):  # a container is made of it
                    api.remove_image(image["Id"])
                    removed += 1
        self._forget_removed()
        return removed

    def remove_environments(self) -> int:
        """Removes the environments that the store knows of, and leftovers; returns how many."""
        docker = docker_package(self.name)

        removed = 0
        for name in self._noted():
            with explained(self.name), contextlib.suppress(docker.errors.APIError):  # gone, or in use
                self._api().remove_image(self.environment(name).tag)
                removed += 1
        return removed + self.remove_leftovers()

    @property
    def lasting_socket(self) -> str | None:
        """The socket of the engine's service; None when it is reached otherwise, or klock had to start it."""
        self._api()
        assert self._connection is not None
        return self._connection.lasting_socket

    @property
    def settings_files(self) -> list[Path] | None:
        """The files, there or not, that decide where the engine is; None when they are more than these."""
        return settings_files(self.name, os.environ)

    @property
    def is_used(self) -> bool:
        """Whether the store knows of environments on this engine."""
        return bool(self._noted())

    @property
    def notes(self) -> list[str]:
        """The names of the store's notes of environments on this engine."""
        return [name for name in self._store.environment_names() if name.endswith(note_of(self.name, ""))]

    def _noted(self) -> list[str]:
        return sorted(environment_of(note) for note in self.notes)

    def _forget_removed(self) -> None:
        """Drops the store's notes of environments whose images are gone."""
        for name in self._noted():
            if not self.environment(name).exists:
                shutil.rmtree(self._store.environment_path(note_of(self.name, name)), ignore_errors=True)

    def _api(self) -> APIClient:
        if self._connection is None or not self._connection.is_usable:
            self._connection = connect(self.name, os.environ)
        return self._connection.client

    # -- layers as archives

    def _manifest(self, base: str, layers: Sequence[Digest]) -> Manifest:
        return functools.reduce(Manifest.apply, map(self._trees.layer_manifest, layers), self.base_manifest(base))

    @contextmanager
    def _archives(self, base: str, layers: Sequence[Digest], config: ImageConfig) -> Iterator[list[Archive]]:
        """The archives of a base and layers, the lowest first, until the end of the block."""
        self._trees.stack(base, layers)
        with scratch_folder(self._store) as folder:
            as_they_are = len(config.archives) + len(layers) <= _MOST_LAYERS
            if as_they_are and config.archives and all(a.media_type in _READ_BY_ENGINES for a in config.archives):
                found = [Archive(path=archive.path, diff_id=archive.diff_id) for archive in config.archives]
            else:
                found = [self._archive(folder / "base.tar", functools.partial(self.write_base, base))]
            for number, layer in enumerate(layers):
                found.append(self._archive(folder / f"{number}.tar", functools.partial(self.write_layer, layer)))
            yield found

    @staticmethod
    def _archive(path: Path, write: Callable[[Path], None]) -> Archive:
        write(path)
        with open(path, "rb") as file:
            return Archive(path=path, diff_id=digest_of_stream(file))
