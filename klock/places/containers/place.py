"""The places podman and docker: the layers that the workshop made become an image, and commands run in containers.

What a container then really holds is observed and compared like any environment.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.digests import Digest, digest_of_stream
from klock.forks import Tally
from klock.layers.manifest import Manifest
from klock.places.containers.address import settings_files
from klock.places.containers.client import EngineClient
from klock.places.containers.image import Archive
from klock.places.containers.start_options import expected_start_options
from klock.places.containers.synced import Layers, SyncedImage
from klock.places.layered import (
    apply_layers,
    image_config,
    layer_in_store,
    locked_files,
    why_not_comparable,
    why_not_in_store,
)
from klock.places.protocol import OWN_STREAMS, Applied, Evidence, ImageConfig, Streams
from klock.places.records import folder_of, names_in, service_log
from klock.store import Store

if TYPE_CHECKING:
    from klock.observation import Observation
    from klock.replay.goal import Goal
    from klock.replay.plan import Plan
    from klock.steps.context import Context
    from klock.workshop.protocol import BaseLayer, Command, Workshop

__all__ = ["ContainerPlace"]

_MOST_LAYERS: Final = 120
"""docker takes up to 125, and podman makes images of more, but no containers of them."""

_READ_BY_ENGINES: Final = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


class ContainerPlace:
    """`klock.places.protocol.Place` on the engine `name`."""

    has_containers = True
    gives_devices = True
    converges = False

    def __init__(self, name: str, workshop: Workshop, store: Store, *, ca_bundle: Path | None = None) -> None:
        """`ca_bundle`: certificates that commands with the host's network trust."""
        self.name = name
        self.where = f" on {name}"
        self._workshop = workshop
        self._store = store
        self._ca_bundle = ca_bundle
        self._client = EngineClient(name)

    def check(self) -> None:
        """Raises EngineError when the workshop cannot run here, or the engine does not answer."""
        self._workshop.check()
        _ = self._client.api

    def image(self, name: str) -> SyncedImage:
        """The image of the environment `name`, whether there is one yet or not."""
        return SyncedImage(
            name,
            client=self._client,
            layers=Layers(archives=self._archives, manifest=self._manifest),
            state=folder_of(self._store, self.name, name),
        )

    def plan(self, goal: Goal) -> Plan:
        from klock.replay.plan import make_plan

        image = self.image(goal.name)
        return make_plan(goal, workshop=self._workshop, store=self._store, record=image.record, clean=image.is_clean())

    def apply(self, goal: Goal, context: Context, *, force: bool = False) -> Applied:
        def replace() -> None:
            lock = goal.lock
            config = image_config(lock, _base_archives(goal, self._store))
            tally = Tally("bytes")
            with context.progress.stage(f"load the image into {self.name}", tally):
                self.image(goal.name).replace(
                    lock.layers, base=lock.base.id, record=goal.record, config=config, tally=tally
                )

        return apply_layers(self, goal, context, replace=replace)

    def synced(self, name: str) -> Digest | None:
        image = self.image(name)
        image.refuse_another_image()
        record = image.record
        return None if record is None else str(record.get("fingerprint"))

    def is_clean(self, name: str) -> bool:
        return self.image(name).is_clean()

    def observe(
        self, goal: Goal, *, container: str | None = None, deep: bool = False, tally: Tally | None = None
    ) -> Observation:
        """Always deep: the engine's storage has no stats that klock could have noted."""
        image = self.image(goal.name)
        return (
            self._observe_image(goal, image) if container is None else self._observe_container(goal, image, container)
        )

    def _observe_image(self, goal: Goal, image: SyncedImage) -> Observation:
        from klock.findings import Code, Finding
        from klock.observation import Observation
        from klock.workshop.working_dir import folders_to, without_made_folders

        record = image.record
        if record is None and image.exists:
            return Observation(problem=f"the image {image.tag} is not one that klock synced: run `klock sync`")
        if (problem := why_not_comparable(goal, record, self._workshop)) is not None:
            return Observation(problem=problem)
        locked, layers = locked_files(goal.lock, self._workshop)
        files = without_made_folders(image.observe(), locked, folders_to(goal.lock.working_dir, locked))
        expected, found = expected_start_options(image_config(goal.lock)), image.start_options()
        # Of a variable that holds a secret nothing is locked but the reference, and no value may be shown.
        secret = goal.lock.environment.keys() - expected.variables.keys()
        another = f"the image {image.tag} is not the one that was synced: run `klock sync`"
        return Observation(
            locked=locked,
            layers=tuple(layers),
            files=files,
            locked_variables=expected.variables,
            variables={name: value for name, value in found.variables.items() if name not in secret},
            locked_settings=expected.settings,
            settings=found.settings,
            unexplained=None if image.is_clean() else Finding(code=Code.SETTING, message=another),
        )

    def _observe_container(self, goal: Goal, image: SyncedImage, container: str) -> Observation:
        """It may have more variables than are locked."""
        from klock.observation import Observation

        fingerprint, options = image.describe_container(container)
        if fingerprint not in (None, goal.lock.fingerprint):
            message = f"the container {container} was made from another lockfile: run `klock sync`"
            return Observation(problem=f"{message}, and start it from the new image")
        if (problem := why_not_in_store(goal.lock, self._workshop)) is not None:
            return Observation(problem=problem)
        locked, layers = locked_files(goal.lock, self._workshop)
        variables = goal.lock.public_environment
        return Observation(
            locked=locked,
            layers=tuple(layers),
            files=image.observe_container(container, locked),
            locked_variables=variables,
            variables={name: value for name, value in options.variables.items() if name in variables},
        )

    def variables(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        return {}

    def execute(
        self,
        name: str,
        command: Command,
        *,
        services: Sequence[Command] = (),
        streams: Streams = OWN_STREAMS,
        takes_over: bool = False,
    ) -> int:
        from klock.places.containers.running import run_in_container

        return run_in_container(
            self.image(name),
            command,
            client=self._client,
            services=services,
            streams=streams,
            ca_bundle=self._ca_bundle,
            log=service_log(self._store, self.name, name),
        )

    def launch(self, name: str, command: Command) -> str | None:
        return None

    def remove(self, name: str) -> int | None:
        """The image stays while a container uses it."""
        image = self.image(name)
        self._client.remove_image(image.tag)
        if image.exists:
            return None
        self._forget(name)
        return 0

    def remove_leftovers(self) -> int:
        """Klock's images that no environment's name leads to, and containers whose klock was killed.

        What others made stays, and so do containers that were started from klock's images.
        """
        removed = self._client.remove_abandoned_containers() + self._client.remove_nameless_images()
        for name in self.environments():
            if not self.image(name).exists:
                self._forget(name)
        return removed

    def environments(self) -> list[str]:
        return names_in(self._store, self.name)

    def evidence(self, name: str) -> Evidence | None:
        image, connection = self.image(name), self._client.connection
        settings = settings_files(self.name, os.environ)
        if connection.lasting_socket is None or settings is None:
            return None
        return Evidence(
            holds=image.is_clean,
            files=[image.note_file],
            settings=settings,
            image=(connection.lasting_socket, image.tag),
        )

    def _forget(self, name: str) -> None:
        shutil.rmtree(folder_of(self._store, self.name, name), ignore_errors=True)

    # -- layers as archives

    def _manifest(self, base: str, layers: Sequence[Digest]) -> Manifest:
        manifests = (layer_in_store(layer, self._workshop) for layer in layers)
        return functools.reduce(Manifest.apply, manifests, self._workshop.base_manifest(base))

    @contextmanager
    def _archives(self, base: str, layers: Sequence[Digest], config: ImageConfig) -> Iterator[list[Archive]]:
        """The archives of a base and layers, the lowest first, until the end of the block."""
        from klock.workshop.scratch import scratch_folder

        with scratch_folder(self._store) as folder:
            as_they_are = len(config.archives) + len(layers) <= _MOST_LAYERS
            if as_they_are and config.archives and all(a.media_type in _READ_BY_ENGINES for a in config.archives):
                found = [Archive(path=archive.path, diff_id=archive.diff_id) for archive in config.archives]
            else:
                found = [_archive(folder / "base.tar", functools.partial(self._workshop.write_base, base))]
            for number, layer in enumerate(layers):
                found.append(
                    _archive(
                        folder / f"{number}.tar", functools.partial(self._workshop.write_layer, layer, derived=True)
                    )
                )
            yield found


def _archive(path: Path, write: Callable[[Path], None]) -> Archive:
    write(path)
    with open(path, "rb") as file:
        return Archive(path=path, diff_id=digest_of_stream(file))


def _base_archives(goal: Goal, store: Store) -> list[BaseLayer]:
    """Those of the base, when the store has them all."""
    from klock.lockfile.model import OciLock
    from klock.workshop.protocol import BaseLayer

    base = goal.lock.base
    archives: list[BaseLayer] = []
    for layer in base.layers if isinstance(base, OciLock) else ():
        if (blob := store.find_blob(layer.digest)) is None:
            return []
        archives.append(BaseLayer(path=blob, media_type=layer.media_type, diff_id=layer.diff_id))
    return archives
