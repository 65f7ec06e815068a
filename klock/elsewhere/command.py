"""Runs one command line of klock in a container of its own image."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

from klock.elsewhere.own_image import FOLDER, PACKAGES, archive_of, make_image
from klock.elsewhere.project_files import pack_folder, put_back
from klock.errors import EngineError, KlockError
from klock.oci.credentials import podman_logins
from klock.places.containers.attached import has_terminal, signals_noted
from klock.places.containers.client import EngineClient
from klock.places.containers.connection import docker_package, explained
from klock.places.containers.foreground import follow, start
from klock.places.protocol import OWN_STREAMS
from klock.progress import Progress
from klock.project import find_root
from klock.words import in_bytes

__all__ = ["run_in_workshop", "variables_to_send"]

VOLUME_VARIABLE: Final = "KLOCK_WORKSHOP_VOLUME"
ALSO_VARIABLE: Final = "KLOCK_WORKSHOP_FOLDERS"
_VOLUME: Final = "klock-store"
_STORE: Final = f"{FOLDER}/store"
_MUCH: Final = 256 << 20
"""Bytes: klock says so when it copies more."""
_ALL: Final = ("*",)
_WANTED: Final[Mapping[str, Sequence[str]]] = {
    "lock": ("*.lock",),
    **dict.fromkeys(("add", "remove", "run", "shell"), _ALL),
}
"""What comes back of a verb's changes to the project. `run` and `shell` may have mounted it for that."""
_OF_THE_MACHINE: Final = (
    *("PATH", "HOME", "TMPDIR", "TMP", "TEMP", "PWD", "OLDPWD", "SHELL", "SHLVL", "USER", "LOGNAME", "HOSTNAME", "_"),
    *("DOCKER_HOST", "CONTAINER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NETRC", "VIRTUAL_ENV"),
    "REGISTRY_AUTH_FILE",
    *("KLOCK_CACHE_DIR", "KLOCK_WORKSHOP", "KLOCK_WORKSHOP_IMAGE", VOLUME_VARIABLE, ALSO_VARIABLE, "KLOCK_ENGINE"),
)
_OF_THE_MACHINE_BY_START: Final = ("XDG_", "LD_", "DYLD_", "PYTHON", "DBUS_", "SSH_")
_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "podman": {"security_opt": ["seccomp=unconfined", "unmask=ALL"]},
    "docker": {"security_opt": ["seccomp=unconfined", "apparmor=unconfined"]},
}
"""So that klock can make namespaces and mount /proc in there."""


def run_in_workshop(engine: str, arguments: Sequence[str], progress: AbstractContextManager[Progress]) -> int:
    """The status of the command. Files that it changed are here afterwards. Raises KlockError."""
    client = EngineClient(engine)
    folder = Path.cwd()
    project = find_root(folder)
    certificates = _certificates(os.environ)
    with ExitStack() as stack:
        with progress as shown:
            image = make_image(client, os.environ, certificates, shown)
            archives = _packed(project, shown, stack)
        sent: list[IO[bytes] | bytes] = [*archives, archive_of(_files(arguments, folder, project, certificates))]
        return _run(client, image, sent, project=project if _wanted(arguments) else None)


def _run(client: EngineClient, image: str, archives: Sequence[IO[bytes] | bytes], *, project: Path | None) -> int:
    """The status of klock in a container of `image` with `archives` unpacked. What it changed is put into `project`."""
    terminal = has_terminal()
    with (
        explained(client.engine),
        signals_noted() as signals,
        client.container(
            "workshop",
            image=image,
            entrypoint=[""],
            command=["python3", f"{FOLDER}/launch.py"],
            user="0",
            environment=[f"PYTHONPATH={PACKAGES}", f"KLOCK_CACHE_DIR={_STORE}"],
            stdin_open=True,
            tty=terminal,
            host_config=_host_config(client),
        ) as container,
    ):
        for archive in archives:
            client.api.put_archive(container, "/", archive)
        connection = start(client, container)
        status = follow(client, container, connection, streams=OWN_STREAMS, signals=signals, terminal=terminal)
        if project is not None:
            _take_back(client, container, project)
    return status


def _host_config(client: EngineClient) -> Mapping[str, Any]:
    volume = os.environ.get(VOLUME_VARIABLE) or _VOLUME
    config: dict[str, Any] = client.api.create_host_config(
        binds=[f"{volume}:{_STORE}"], network_mode="host", **_OPTIONS[client.engine]
    )
    if client.engine == "docker":
        # What its program calls systempaths=unconfined.
        config |= {"MaskedPaths": [], "ReadonlyPaths": []}
    return config


def _wanted(arguments: Sequence[str]) -> Sequence[str]:
    verb = next(word for word in arguments if not word.startswith("-"))
    return _WANTED.get(verb, ())


def _files(
    arguments: Sequence[str], folder: Path, project: Path, certificates: bytes | None
) -> Iterator[tuple[str, bytes | Path]]:
    """What the launcher reads, and credentials in files, where klock looks for them."""
    variables = variables_to_send(os.environ)
    if certificates is not None:
        yield f"{FOLDER}/ca.pem", certificates
        variables |= {"SSL_CERT_FILE": f"{FOLDER}/ca.pem"}
    logins = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    netrc = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    podmans = [path for path in podman_logins(os.environ) if path.is_file()]
    for path, inside, name, value in (
        (logins, f"{FOLDER}/docker/config.json", "DOCKER_CONFIG", f"{FOLDER}/docker"),
        *((path, f"{FOLDER}/auth.json", "REGISTRY_AUTH_FILE", f"{FOLDER}/auth.json") for path in podmans[:1]),
        (netrc, f"{FOLDER}/netrc", "NETRC", f"{FOLDER}/netrc"),
    ):
        if path.is_file():
            yield inside, path.read_bytes()
            variables[name] = value
    asked = {
        "arguments": list(arguments),
        "folder": str(folder),
        "project": str(project),
        "variables": variables,
        "wanted": list(_wanted(arguments)),
    }
    yield f"{FOLDER}/run.json", json.dumps(asked).encode()


def variables_to_send(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that are not this machine's own: credentials that an image names may be among them."""
    return {
        name: value
        for name, value in environ.items()
        if name not in _OF_THE_MACHINE and not name.startswith(_OF_THE_MACHINE_BY_START)
    }


def _certificates(environ: Mapping[str, str]) -> bytes | None:
    """The certificates that `SSL_CERT_FILE` names."""
    named = environ.get("SSL_CERT_FILE")
    if not named:
        return None
    try:
        return Path(named).read_bytes()
    except OSError as error:
        raise KlockError(
            f"SSL_CERT_FILE {named} cannot be read: {error.strerror}", hint="unset it, or name a file that you may read"
        ) from error


def _packed(project: Path, progress: Progress, stack: ExitStack) -> list[IO[bytes]]:
    """Archives of the project and of the other folders that were asked for, each with its path on this machine."""
    also = [Path(word).absolute() for word in os.environ.get(ALSO_VARIABLE, "").split(os.pathsep) if word]
    archives: list[IO[bytes]] = []
    for folder in (project, *also):
        if not folder.is_dir() or folder == Path("/"):
            raise KlockError(f"{folder} cannot be copied into a container", hint="run klock in a project's folder")
        archive, size = stack.enter_context(_archive(folder))
        archives.append(archive)
        if size > _MUCH:
            progress.note(
                f"{in_bytes(size)} of {folder} are copied into the container each time: keep large data elsewhere"
            )
    return archives


@contextmanager
def _archive(folder: Path) -> Iterator[tuple[IO[bytes], int]]:
    """An archive of a folder, from its beginning on, and the bytes of the files in it."""
    with tempfile.TemporaryFile() as archive:
        size = pack_folder(folder, archive)
        archive.seek(0)
        yield archive, size


def _take_back(client: EngineClient, container: str, project: Path) -> None:
    """Puts what the launcher packed into the project. Raises EngineError where klock was killed before."""
    docker = docker_package(client.engine)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "changed.tar")
        try:
            client.take(f"{FOLDER}/{archive.name}", container, archive)
        except docker.errors.NotFound as error:
            raise EngineError(
                "the container ended before klock did, so the project is as it was", hint="run the command again"
            ) from error
        put_back(archive, project)
