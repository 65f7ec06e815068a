"""An environment of podman or docker: an image of the locked layers, under the environment's name.

Commands run in new containers of it, so the image itself never drifts. Containers that people start from it can be
compared with the lockfile too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from klock.digests import Digest
from klock.documents import read_json
from klock.errors import EngineError
from klock.forks import Tally
from klock.layers.manifest import Manifest
from klock.places.containers.attached import signals_raised
from klock.places.containers.client import EngineClient
from klock.places.containers.connection import explained, reject_errors
from klock.places.containers.image import LABEL, Archive, ImageArchive, image_config
from klock.places.containers.notes import Note, Notes
from klock.places.containers.observation import manifest_of_export, without_what_engines_do
from klock.places.containers.start_options import StartOptions, start_options_of
from klock.places.protocol import ImageConfig
from klock.values import dataclass

__all__ = ["Layers", "SyncedImage", "tag_of"]

_RECORD: Final = ("fingerprint", "lockfile", "target")


def tag_of(name: str) -> str:
    """The image's name and tag for an environment's name, which may hold what no image's name does."""
    return f"localhost/klock/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}:latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What an image is made of: the archives of a base and layers, and what they show together."""

    archives: Callable[[str, Sequence[Digest], ImageConfig], AbstractContextManager[list[Archive]]]
    manifest: Callable[[str, Sequence[Digest]], Manifest]


class SyncedImage:
    """`state` is the folder in which the store notes what the image is made of."""

    def __init__(self, name: str, *, client: EngineClient, layers: Layers, state: Path) -> None:
        self.name = name
        self.tag = tag_of(name)
        self._client = client
        self._engine = client.engine
        self._layers = layers
        self._notes = Notes(state)

    @property
    def record(self) -> Mapping[str, object] | None:
        """What the image's labels say of it. None when they are not klock's, or it was not synced with this store."""
        labels = self._labels()
        if labels is None or self._notes.read() is None or any(f"{LABEL}.{key}" not in labels for key in _RECORD):
            return None
        try:
            variables = read_json(labels.get(f"{LABEL}.variables", ""))
        except ValueError:
            return None
        return {**{key: labels[f"{LABEL}.{key}"] for key in _RECORD}, "variables": variables}

    @property
    def note_file(self) -> Path:
        """What the store holds of it."""
        return self._notes.file

    @property
    def exists(self) -> bool:
        """Whether there is an image of this name, whoever made it."""
        return self._client.image(self.tag) is not None

    def replace(
        self,
        layers: Sequence[Digest],
        *,
        base: str,
        record: Mapping[str, object],
        config: ImageConfig,
        tally: Tally | None = None,
    ) -> None:
        """Loads the image, unless the engine has it, and gives it the environment's name; the old one is removed when
        no container is made of it. Until the engine has the new one whole, the name is the old one's.

        `tally` counts the bytes that the engine is given.
        """
        labels = {f"{LABEL}.{key}": str(record.get(key, "")) for key in _RECORD}
        labels[f"{LABEL}.variables"] = json.dumps(record.get("variables", {}), sort_keys=True)
        labels[f"{LABEL}.base"] = base
        labels[f"{LABEL}.layers"] = " ".join(layers)
        with explained(self._engine), self._layers.archives(base, layers, config) as archives:
            content = image_config(config, labels, [archive.diff_id for archive in archives])
            image = ImageArchive(config=content, layers=archives, tag=self.tag)
            old = self._client.image(self.tag)
            note = Note(base=base, layers=tuple(layers), image=image.id)
            # Before it is loaded, so that pruning keeps what it is made of.
            self._notes.write(replace(note, previous=old["Id"] if old is not None and self._is_noted(old) else None))
            api = self._client.api
            if self._client.image(image.id) is None:
                reject_errors(self._engine, api.load_image(image.chunks(tally)))
            found = self._client.image(image.id)
            if found is None:
                raise EngineError(f"{self._engine} loaded the image under another id than {image.id}")
            repository, _, tag = self.tag.rpartition(":")
            api.tag(image.id, repository, tag, force=True)
            self._notes.write(note)
            if old is not None and _hex(old["Id"]) != _hex(image.id):
                self._client.remove_image(old["Id"])

    def is_clean(self) -> bool:
        """Whether the environment's name still leads to the image that was loaded. True when there is none."""
        found = self._client.image(self.tag)
        return found is None or self._is_noted(found)

    def refuse_another_image(self) -> None:
        """Raises EngineError when somebody gave the environment's name to another image than the one synced here."""
        if self._notes.read() is not None and not self.is_clean():
            raise self._another_image()

    def start_options(self) -> StartOptions:
        """How a container of the image starts."""
        return start_options_of(self.existing()["Config"])

    def observe(self) -> Manifest:
        """What a container of the image holds before anything runs in it."""
        image, note = self.existing()["Id"], self._notes.read()
        if note is None:
            raise self._another_image()
        locked = self._layers.manifest(note.base, note.layers)
        options = {"image": image, "command": ["/klock-never-runs"]}
        with explained(self._engine), signals_raised(), self._client.container(self.name, **options) as container:
            return self._observe(container, locked)

    def observe_container(self, container: str, locked: Manifest) -> Manifest:
        """What a container holds that somebody started, where `locked` is expected. Mounts are not part of it."""
        with explained(self._engine):
            return self._observe(container, locked)

    def describe_container(self, container: str) -> tuple[str | None, StartOptions]:
        """The fingerprint of the environment whose image a container was started from, if any, and how it started."""
        with explained(self._engine):
            config = self._client.api.inspect_container(container)["Config"]
        return (config.get("Labels") or {}).get(f"{LABEL}.fingerprint"), start_options_of(config)

    def _observe(self, container: str, locked: Manifest) -> Manifest:
        api = self._client.api
        working_dir = api.inspect_container(container)["Config"].get("WorkingDir") or "/"
        observed = manifest_of_export(api.export(container, chunk_size=1 << 20))
        return without_what_engines_do(observed, locked, working_dir=working_dir)

    def _labels(self) -> dict[str, str] | None:
        found = self._client.image(self.tag)
        return None if found is None else (found["Config"].get("Labels") or {})

    def existing(self) -> dict[str, Any]:
        """What the engine says of the image. Raises EngineError when there is none."""
        found = self._client.image(self.tag)
        if found is None:
            raise EngineError(f"there is no environment {self.name!r} yet", hint="run `klock sync`")
        return found

    def as_synced(self) -> dict[str, Any]:
        """The same. Raises EngineError also when somebody gave the name to another image."""
        found = self.existing()
        if not self._is_noted(found):
            raise self._another_image()
        return found

    def _is_noted(self, image: Mapping[str, Any]) -> bool:
        note = self._notes.read()
        return note is not None and _hex(image["Id"]) in map(_hex, note.images)

    def _another_image(self) -> EngineError:
        return EngineError(
            f"the image {self.tag} is not the one that was synced",
            hint="run `klock sync`; `klock check --env` says how it differs",
        )


def _hex(image: str) -> str:
    return image.removeprefix("sha256:")
