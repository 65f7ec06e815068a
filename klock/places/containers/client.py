"""What klock asks of a container engine, whichever it is: images by name, containers that go again, files put in."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klock.places.containers.attached import FORWARDED
from klock.places.containers.connection import Connection, connect, docker_package, explained
from klock.places.containers.image import LABEL
from klock.places.containers.owners import may_be_alive, this_process

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["FOLDER", "EngineClient"]

FOLDER: Final = "/run/klock"
"""Where files lie that klock puts into a container."""

_DIRECTORY: Final = 1 << 31
_SYMLINK: Final = 1 << 27


class EngineClient:
    """`engine` is `podman` or `docker`; the connection is made when it is first needed, and again when it is gone."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._connection: Connection | None = None

    @property
    def api(self) -> APIClient:
        """Raises EngineError when the engine does not answer."""
        return self.connection.client

    @property
    def connection(self) -> Connection:
        if self._connection is None or not self._connection.is_usable:
            self._connection = connect(self.engine, os.environ)
        return self._connection

    # -- images

    def image(self, name: str) -> dict[str, Any] | None:
        """What the engine says of an image (Docker API, inspect); None when there is none of this name or id."""
        docker = docker_package(self.engine)

        with explained(self.engine):
            try:
                found: dict[str, Any] = self.api.inspect_image(name)
            except docker.errors.ImageNotFound:
                return None
            return found

    def remove_image(self, image: str) -> bool:
        """False when there is no such image, or a container uses it."""
        docker = docker_package(self.engine)

        with explained(self.engine):
            try:
                self.api.remove_image(image)
            except docker.errors.APIError:
                return False
            return True

    # -- containers

    @contextmanager
    def container(self, owner: str, /, **options: Any) -> Iterator[str]:
        """A container of the environment `owner`, removed at the end of the block.

        No signal comes between its making and its name.
        """
        labels = {f"{LABEL}.run": this_process(), f"{LABEL}.environment": owner}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        container = None
        try:
            container = self.api.create_container(labels=labels, **options)["Id"]
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield container
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
            if container is not None:
                self.api.remove_container(container, force=True, v=True)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def put(self, files: Mapping[str, bytes], container: str, *, for_all: Collection[str] = ()) -> None:
        """Writes files, by absolute paths below FOLDER, into a container that does not run yet. Everybody in it may
        write to those of `for_all`."""
        if not files:
            return
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as archive:
            folder = tarfile.TarInfo(FOLDER.lstrip("/"))
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
            for path, content in files.items():
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mode = len(content), 0o666 if path in for_all else 0o755
                archive.addfile(member, io.BytesIO(content))
        # podman's reader ends at the archive's end, and takes what follows, which fills up a record, for an error.
        self.api.put_archive(container, "/", written.getvalue()[: archive.offset])

    def take(self, path: str, container: str, file: Path) -> None:
        """Copies a file of a container to `file`."""
        chunks, _ = self.api.get_archive(container, path)
        with tempfile.TemporaryFile() as kept:
            for chunk in chunks:
                kept.write(chunk)
            kept.seek(0)
            with tarfile.open(fileobj=kept, mode="r") as archive:
                found = archive.extractfile(archive.getmembers()[0])
                if found is not None:
                    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as log:
                        shutil.copyfileobj(found, log)

    def has_folder(self, container: str, path: str) -> bool:
        """From what the API says of a path, in a header: base64 of JSON, with Go's bits of modes (io/fs, FileMode)."""
        api = self.api
        url = f"{api.base_url}/v{api.api_version}/containers/{container}/archive"
        for _ in range(2):  # a symlink, and where it leads, however many there are between
            said = api.head(url, params={"path": path}).headers.get("X-Docker-Container-Path-Stat")
            if said is None:
                return False
            status = json.loads(base64.b64decode(said))
            if not status["mode"] & _SYMLINK:
                return bool(status["mode"] & _DIRECTORY)
            path = status["linkTarget"]
        return False

    def remove_abandoned_containers(self) -> int:
        """Removes containers whose klock was killed; returns how many."""
        removed = 0
        with explained(self.engine):
            for container in self.api.containers(all=True, filters={"label": f"{LABEL}.run"}):
                owner = container["Labels"][f"{LABEL}.run"]
                if not may_be_alive(owner, container_runs=container["State"] == "running"):
                    self.api.remove_container(container["Id"], force=True, v=True)
                    removed += 1
        return removed

    def remove_nameless_images(self) -> int:
        """Removes klock's images that have no name and no container; returns how many."""
        with explained(self.engine):
            filters = {"label": f"{LABEL}.fingerprint", "dangling": True}
            return sum(self.remove_image(image["Id"]) for image in self.api.images(filters=filters))
