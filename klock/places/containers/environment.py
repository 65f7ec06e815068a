"""An environment of podman or docker: an image of the locked layers, and a new container for each command.

What a command changes goes with its container, as with `docker run --rm`: the image never drifts, and two commands do
not disturb each other. Containers that people start from the image can be compared with the lockfile too.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klock.digests import Digest
from klock.errors import EngineError
from klock.layers.manifest import Manifest
from klock.places.containers.attached import FORWARDED, Attachment, has_terminal, signals_noted, signals_raised
from klock.places.containers.connection import docker_package, explained, reject_errors
from klock.places.containers.image import LABEL, Archive, ImageArchive, image_config
from klock.places.containers.notes import Note, Notes
from klock.places.containers.observation import manifest_of_export, without_what_engines_do
from klock.places.containers.owners import this_process
from klock.places.containers.start_options import StartOptions, start_options_of
from klock.places.containers.starting import cause_of, problem_with_program
from klock.places.working_dir import missing_working_dir
from klock.workshop import trust
from klock.workshop.protocol import SCRIPT, Command, ImageConfig, Network, Uplink

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["ContainerEnvironment", "Layers", "tag_of"]

_FOLDER: Final = "/run/klock"
_RECORD: Final = ("fingerprint", "lockfile", "target")
_STREAMS: Final = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
_MADE_AT_START: Final = ("/dev/", "/proc/", "/run/", "/sys/")
_DIRECTORY: Final = 1 << 31
_SYMLINK: Final = 1 << 27
# A service's output goes nowhere: the container's own streams are the command's.
_WITH_SERVICES: Final = """
shell=/bin/sh; [ -x /bin/bash ] && shell=/bin/bash
for service in /run/klock/service-*; do $shell "$service" </dev/null >/dev/null 2>&1 & done
exec "$@"
"""


def tag_of(name: str) -> str:
    """The image's name and tag for an environment's name, which may hold what no image's name does."""
    return f"localhost/klock/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}:latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What an environment needs of the engine that makes layers: their archives, and what they show together."""

    archives: Callable[[str, Sequence[Digest], ImageConfig], contextlib.AbstractContextManager[list[Archive]]]
    manifest: Callable[[str, Sequence[Digest]], Manifest]


class ContainerEnvironment:
    """`klock.workshop.protocol.Environment`. `state` is where the store notes what it is made of."""

    def __init__(
        self,
        name: str,
        *,
        engine: str,
        api: Callable[[], APIClient],
        layers: Layers,
        state: Path,
        ca_bundle: Path | None,
    ) -> None:
        self._name = name
        self._engine = engine
        self._api = api
        self._layers = layers
        self._notes = Notes(state)
        self._ca_bundle = ca_bundle
        self.tag = tag_of(name)

    # -- the image

    @property
    def record(self) -> Mapping[str, object] | None:
        """What the image's labels say of it. None when they are not klock's, or it was not synced with this store."""
        labels = self._labels()
        if labels is None or self._notes.read() is None or any(f"{LABEL}.{key}" not in labels for key in _RECORD):
            return None
        try:
            variables = json.loads(labels.get(f"{LABEL}.variables", ""))
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
        return self._inspected(self.tag) is not None

    def replace(
        self, layers: Sequence[Digest], *, base: str, record: Mapping[str, object], config: ImageConfig
    ) -> None:
        """Loads the image, unless the engine has it, and gives it the environment's name; the old one is removed when
        no container is made of it. Until the engine has the new one whole, the name is the old one's."""
        labels = {f"{LABEL}.{key}": str(record.get(key, "")) for key in _RECORD}
        labels[f"{LABEL}.variables"] = json.dumps(record.get("variables", {}), sort_keys=True)
        labels[f"{LABEL}.base"] = base
        labels[f"{LABEL}.layers"] = " ".join(layers)
        with explained(self._engine), self._layers.archives(base, layers, config) as archives:
            content = image_config(config, labels, [archive.diff_id for archive in archives])
            image = ImageArchive(config=content, layers=archives, tag=self.tag)
            old = self._inspected(self.tag)
            note = Note(base=base, layers=tuple(layers), image=image.id)
            # Before it is loaded, so that pruning keeps what it is made of.
            self._notes.write(replace(note, previous=old["Id"] if old is not None and self._is_noted(old) else None))
            api = self._api()
            if self._inspected(image.id) is None:
                reject_errors(self._engine, api.load_image(image.chunks()))
            found = self._inspected(image.id)
            if found is None:
                raise EngineError(f"{self._engine} took the image and gave it another id than {image.id}")
            repository, _, tag = self.tag.rpartition(":")
            api.tag(image.id, repository, tag, force=True)
            self._notes.write(note)
            if old is not None and _hex(old["Id"]) != _hex(image.id):
                self._remove_unused(old["Id"])

    def is_clean(self) -> bool:
        """Whether the environment's name still leads to the image that was loaded. True when there is none."""
        found = self._inspected(self.tag)
        return found is None or self._is_noted(found)

    def refuse_another_image(self) -> None:
        """Raises EngineError when somebody gave the environment's name to another image than the one synced here."""
        if self._notes.read() is not None and not self.is_clean():
            raise self._another_image()

    def start_options(self) -> StartOptions:
        """How a container of the image starts."""
        return start_options_of(self._synced()["Config"])

    def observe(self) -> Manifest:
        """What a container of the image holds before anything runs in it."""
        image, note = self._synced()["Id"], self._notes.read()
        if note is None:
            raise self._another_image()
        locked = self._layers.manifest(note.base, note.layers)
        options = {"image": image, "command": ["/klock-never-runs"]}
        with explained(self._engine), signals_raised(), self._container(**options) as container:
            return self._observe(container, locked)

    def observe_container(self, container: str, locked: Manifest) -> Manifest:
        """What a container holds that somebody started, where `locked` is expected. Mounts are no part of it."""
        with explained(self._engine):
            return self._observe(container, locked)

    def describe_container(self, container: str) -> tuple[str | None, StartOptions]:
        """The fingerprint of the environment whose image a container was started from, if any, and how it started."""
        with explained(self._engine):
            config = self._api().inspect_container(container)["Config"]
        return (config.get("Labels") or {}).get(f"{LABEL}.fingerprint"), start_options_of(config)

    def _observe(self, container: str, locked: Manifest) -> Manifest:
        api = self._api()
        working_dir = api.inspect_container(container)["Config"].get("WorkingDir") or "/"
        observed = manifest_of_export(api.export(container, chunk_size=1 << 20))
        return without_what_engines_do(observed, locked, working_dir=working_dir)

    # -- commands

    def execute(self, command: Command, *, services: Sequence[Command] = ()) -> int:
        """Runs a command in a new container, which is removed when it ends, however klock ends it."""
        if isinstance(command.network, Uplink):
            raise EngineError(f"{self._engine} runs no recorded commands", hint="steps run in the sandbox")
        image = self._synced()
        if not self._is_noted(image):
            raise self._another_image()
        terminal = has_terminal()
        argv = list(command.argv)
        files = {SCRIPT: command.script} if command.script is not None else {}
        for number, service in enumerate(services):
            files[f"{_FOLDER}/service-{number}"] = service.script or ""
        if services:
            argv = ["/bin/sh", "-c", _WITH_SERVICES, "klock", *argv]
        certificates = self._certificates(command)
        variables = {**trust.variables_of(certificates), **command.environment}
        self._refuse_other_than_utf8(*argv, *variables.values(), command.working_dir)
        with (
            explained(self._engine),
            signals_noted() as signals,
            self._working_dir_checked(command, image["Id"]),
            self._container(
                # The very image that was looked at; no entrypoint is written like this, which podman does not overlook.
                image=image["Id"],
                entrypoint=[""],
                command=argv,
                environment=[f"{name}={value}" for name, value in variables.items()],
                working_dir=command.working_dir,
                user=command.user,
                stdin_open=True,
                tty=terminal,
                host_config=self._host_config(command),
            ) as container,
        ):
            self._put({**{path: text.encode() for path, text in files.items()}, **certificates}, container)
            return self._run(container, argv[0], signals, terminal=terminal)

    def _refuse_other_than_utf8(self, *texts: str) -> None:
        """The API speaks JSON, and engines read other bytes as U+FFFD without a word."""
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError:
                raise EngineError(
                    f"{self._engine} takes nothing that is not UTF-8: {text!r}",
                    hint="the sandbox does: --engine sandbox",
                ) from None

    @contextmanager
    def _working_dir_checked(self, command: Command, image: str) -> Iterator[None]:
        """Engines make a missing working directory with the container. So another container is asked whether it is."""
        if not command.makes_working_dir and not command.working_dir.startswith(_MADE_AT_START):
            options = {"command": ["/klock-never-runs"], "host_config": self._host_config(command)}
            with self._container(image=image, **options) as container:
                if not self._has_folder(container, command.working_dir):
                    raise missing_working_dir(command.working_dir)
        yield

    def _has_folder(self, container: str, path: str) -> bool:
        """From what the API says of a path, in a header: base64 of JSON, with Go's bits of modes (io/fs, FileMode)."""
        api = self._api()
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

    def _run(self, container: str, program: str, signals: int, *, terminal: bool) -> int:
        """Starts a container, whose process is `program`, and returns its status when it has ended."""
        docker = docker_package(self._engine)

        try:
            connection = self._start(container)
        except docker.errors.APIError as error:
            explanation = str(error.explanation)
            problem = problem_with_program(explanation)
            if problem is None:
                raise EngineError(
                    f"{self._engine} could not start a container: {cause_of(explanation)}",
                    hint=f"see whether {self._engine} itself can: {self._engine} run --rm {self.tag} true",
                ) from error
            status, words = problem
            os.write(2, f"klock: {words}: {program}\n".encode("utf-8", "surrogateescape"))
            return status
        try:
            self._attach(container, connection, signals, terminal=terminal)
            return int(self._api().wait(container)["StatusCode"])
        finally:
            _close(connection)

    def _start(self, container: str) -> socket.socket:
        """Starts a container and returns the connection with its streams on it."""
        api = self._api()
        # podman makes the container ready here, docker when it starts it.
        connection = _raw_socket(api.attach_socket(container, params=_STREAMS))
        try:
            api.start(container)
        except BaseException:
            _close(connection)
            raise
        return connection

    def _attach(self, container: str, connection: socket.socket, signals: int, *, terminal: bool) -> None:
        docker = docker_package(self._engine)

        api = self._api()

        def kill(number: int) -> None:
            with contextlib.suppress(docker.errors.APIError):  # it has ended
                api.kill(container, signal.Signals(number).name)

        def resize(rows: int, columns: int) -> None:
            with contextlib.suppress(docker.errors.APIError):
                api.resize(container, height=rows, width=columns)

        Attachment(connection, signals=signals, terminal=terminal, kill=kill, resize=resize).run()

    def _host_config(self, command: Command) -> Mapping[str, Any]:
        for path in (*(str(m.source) for m in command.mounts), *(m.host_path for m in command.devices.mounts)):
            self._refuse_other_than_utf8(path)
            if ":" in path:
                raise EngineError(
                    f"{self._engine} cannot mount {path}: a colon ends a path there", hint="give it another name"
                )
        binds = [f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}" for mount in command.mounts]
        edits = command.devices
        binds += [
            f"{mount.host_path}:{mount.container_path}:{'ro' if 'ro' in mount.options else 'rw'}"
            for mount in edits.mounts
            # runc lets nobody mount there. NVIDIA's hook does, to have its tools make no nodes: they could not use any.
            if not mount.container_path.startswith("/proc/")
        ]
        nodes = [f"{n.host_path or n.path}:{n.path}:{n.permissions or 'rwm'}" for n in edits.device_nodes]
        network = "host" if command.network is Network.HOST else "none"
        config: Mapping[str, Any] = self._api().create_host_config(
            binds=binds,
            network_mode=network,
            devices=nodes or None,
            group_add=[str(gid) for gid in edits.additional_gids] or None,
        )
        return config

    def _certificates(self, command: Command) -> dict[str, bytes]:
        if command.network is not Network.HOST or self._ca_bundle is None:
            return {}
        return trust.host_files(self._ca_bundle.read_bytes())

    @contextmanager
    def _container(self, **options: Any) -> Iterator[str]:
        """A container that is removed at the end of the block. No signal comes between its making and its name."""
        api = self._api()
        labels = {f"{LABEL}.run": this_process(), f"{LABEL}.environment": self._name}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        container = None
        try:
            container = api.create_container(labels=labels, **options)["Id"]
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield container
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
            if container is not None:
                api.remove_container(container, force=True, v=True)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _put(self, files: Mapping[str, bytes], container: str) -> None:
        """Writes files into a container that does not run yet."""
        if not files:
            return
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as archive:
            folder = tarfile.TarInfo(_FOLDER.lstrip("/"))
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
            for path, content in files.items():
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mode = len(content), 0o755
                archive.addfile(member, io.BytesIO(content))
        self._api().put_archive(container, "/", written.getvalue())

    # -- the engine's images

    def _labels(self) -> dict[str, str] | None:
        found = self._inspected(self.tag)
        return None if found is None else (found["Config"].get("Labels") or {})

    def _inspected(self, image: str) -> dict[str, Any] | None:
        docker = docker_package(self._engine)

        with explained(self._engine):
            try:
                found: dict[str, Any] = self._api().inspect_image(image)
            except docker.errors.ImageNotFound:
                return None
            return found

    def _remove_unused(self, image: str) -> None:
        docker = docker_package(self._engine)

        with contextlib.suppress(docker.errors.APIError):  # a container is made of it: `klock cache prune` tries again
            self._api().remove_image(image)

    def _synced(self) -> dict[str, Any]:
        found = self._inspected(self.tag)
        if found is None:
            raise EngineError(f"there is no environment {self._name!r} yet", hint="run klock sync")
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


def _raw_socket(attached: Any) -> socket.socket:
    """The socket below what the client gives: it depends on the transport."""
    found = getattr(attached, "_sock", attached)
    if not isinstance(found, socket.socket):
        raise EngineError("klock can attach to a container over a Unix socket or plain TCP only", hint="use unix://")
    found.settimeout(None)
    return found


def _close(connection: socket.socket) -> None:
    """Closes it for good, as the client keeps it: engines do not remove a container while it may take its output."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
