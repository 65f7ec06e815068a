"""Runs a command in a new container of an image, with its services beside it, and removes the container.

What a command changes goes with its container, as with `docker run --rm`: two commands do not disturb each other.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from klock.errors import EngineError
from klock.escaping import escaped
from klock.places.containers.attached import has_terminal, signals_noted
from klock.places.containers.client import FOLDER, EngineClient
from klock.places.containers.connection import docker_package, explained
from klock.places.containers.foreground import follow, start
from klock.places.containers.starting import cause_of, problem_with_program
from klock.places.containers.synced import SyncedImage
from klock.places.ended import name_of
from klock.places.protocol import OWN_STREAMS, Streams
from klock.workshop import trust
from klock.workshop.protocol import SCRIPT, Command, Network, Uplink
from klock.workshop.working_dir import missing_working_dir

__all__ = ["run_in_container"]

_MADE_AT_START: Final = ("/dev/", "/proc/", "/run/", "/sys/")
_LOG: Final = f"{FOLDER}/services.log"
# The container's own streams are the command's. When that ends, so do the services, and nothing is said of them.
_WITH_SERVICES: Final = f"""
shell=/bin/sh; [ -x /bin/bash ] && shell=/bin/bash
for service in {FOLDER}/service-*; do
    (
        $shell "$service" </dev/null >>{_LOG} 2>&1
        status=$?
        IFS= read -r named <{FOLDER}/named-${{service##*-}}
        [ $status = 0 ] || printf '%s ended with status %s; %s\\n' "$named" $status \\
            '`klock logs --services` will have all that it printed' >&2
    ) &
done
exec "$@"
"""


def run_in_container(
    image: SyncedImage,
    command: Command,
    *,
    client: EngineClient,
    services: Sequence[Command],
    streams: Streams,
    ca_bundle: Path | None,
    log: Path,
) -> int:
    """The command's status. The container is removed when it ends, however klock ends it.

    `log` takes what services have printed. `ca_bundle` holds the certificates that a command with the host's network
    trusts.
    """
    return _Run(image, command, client, streams, ca_bundle).with_services(services, log)


class _Run:
    def __init__(
        self, image: SyncedImage, command: Command, client: EngineClient, streams: Streams, ca_bundle: Path | None
    ) -> None:
        self._image = image
        self._command = command
        self._client = client
        self._engine = client.engine
        self._streams = streams
        self._terminal = streams == OWN_STREAMS and has_terminal()
        self._ca_bundle = ca_bundle

    def with_services(self, services: Sequence[Command], log: Path) -> int:
        command = self._command
        if isinstance(command.network, Uplink):
            raise EngineError(f"{self._engine} cannot record a command's network")
        image = self._image.as_synced()["Id"]
        argv = list(command.argv)
        files = {SCRIPT: command.script} if command.script is not None else {}
        for number, service in enumerate(services):
            files[f"{FOLDER}/service-{number}"] = service.script or ""
            files[f"{FOLDER}/named-{number}"] = escaped(f"klock: the service {name_of(service)!r}") + "\n"
        if services:
            files[_LOG] = ""
            argv = ["/bin/sh", "-c", _WITH_SERVICES, "klock", *argv]
        certificates = self._certificates()
        variables = {**trust.variables_of(certificates), **command.environment}
        self._refuse_other_than_utf8(*argv, *variables.values(), command.working_dir)
        with (
            explained(self._engine),
            signals_noted() as signals,
            self._working_dir_checked(image),
            self._client.container(
                self._image.name,
                # The image by its id, as it was checked. No entrypoint is `[""]`: podman ignores an empty list.
                image=image,
                entrypoint=[""],
                command=argv,
                environment=[f"{name}={value}" for name, value in variables.items()],
                working_dir=command.working_dir,
                user=command.user,
                stdin_open=True,
                tty=self._terminal,
                host_config=self._host_config(),
            ) as container,
        ):
            contents = {path: text.encode("utf-8", "backslashreplace") for path, text in files.items()}
            self._client.put({**contents, **certificates}, container, for_all=[_LOG])
            try:
                return self._run(container, argv[0], signals)
            finally:
                if services:
                    with contextlib.suppress(docker_package(self._engine).errors.APIError, OSError, tarfile.TarError):
                        self._client.take(_LOG, container, log)

    def _refuse_other_than_utf8(self, *texts: str) -> None:
        """The API speaks JSON, and engines read other bytes as U+FFFD without a word."""
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError:
                raise EngineError(
                    f"{self._engine} accepts only UTF-8 in commands and variables, not {text!r}",
                    hint="use the sandbox: --engine sandbox",
                ) from None

    @contextmanager
    def _working_dir_checked(self, image: str) -> Iterator[None]:
        """Engines make a missing working directory with the container. So another container is asked whether it is."""
        command = self._command
        if not command.makes_working_dir and not command.working_dir.startswith(_MADE_AT_START):
            options = {"command": ["/klock-never-runs"], "host_config": self._host_config()}
            with self._client.container(self._image.name, image=image, **options) as container:
                if not self._client.has_folder(container, command.working_dir):
                    raise missing_working_dir(command.working_dir)
        yield

    def _run(self, container: str, program: str, signals: int) -> int:
        """Starts a container, whose process is `program`, and returns its status when it has ended."""
        docker = docker_package(self._engine)

        try:
            connection = start(self._client, container)
        except docker.errors.APIError as error:
            explanation = str(error.explanation)
            problem = problem_with_program(explanation)
            if problem is None:
                raise EngineError(
                    f"{self._engine} could not start a container: {cause_of(explanation)}",
                    hint=f"see whether {self._engine} itself can: {self._engine} run --rm {self._image.tag} true",
                ) from error
            status, words = problem
            os.write(2, f"klock: {words}: {program}\n".encode("utf-8", "surrogateescape"))
            return status
        return follow(
            self._client,
            container,
            connection,
            streams=self._streams,
            signals=signals,
            terminal=self._terminal,
        )

    def _host_config(self) -> Mapping[str, Any]:
        command = self._command
        for path in (*(str(m.source) for m in command.mounts), *(m.host_path for m in command.devices.mounts)):
            self._refuse_other_than_utf8(path)
            if ":" in path:
                raise EngineError(
                    f"{self._engine} cannot mount {path}: it does not support colons in paths", hint="rename the path"
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
        # Engines give 64 MB, with which PyTorch's loaders die; the kernel's own default is half of the memory.
        shm_size = _half_of_memory() if command.shm_size is None else command.shm_size
        network = "host" if command.network is Network.HOST else "none"
        config: Mapping[str, Any] = self._client.api.create_host_config(
            binds=binds,
            network_mode=network,
            devices=nodes or None,
            group_add=[str(gid) for gid in edits.additional_gids] or None,
            pid_mode="host" if command.host_pid else None,
            ipc_mode="host" if command.host_ipc else None,
            shm_size=None if command.host_ipc else shm_size,
        )
        return config

    def _certificates(self) -> dict[str, bytes]:
        if self._command.network is not Network.HOST or self._ca_bundle is None:
            return {}
        return trust.host_files(self._ca_bundle.read_bytes())


def _half_of_memory() -> int:
    """In bytes, of this machine: that of an engine elsewhere may have more, or less, and takes it as a limit."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
