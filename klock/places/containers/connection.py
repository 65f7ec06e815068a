"""The connection to a container engine, through the Docker-compatible API that both engines speak.

docker: `DOCKER_HOST`, or the current context (`DOCKER_CONTEXT`, `docker context use`), or its socket. podman:
`CONTAINER_HOST`, or the socket of a running service, or else a service of klock's own. That one ends with klock;
rootless, where podman starts itself once more, a klock that is killed cannot take it along, so it also ends when nobody
has used it for a minute, and is started again when needed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from klock.errors import EngineError
from klock.extras import missing_extra_hint
from klock.temporary import temporary_folder
from klock.values import dataclass
from klock.workshop import linux

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["Connection", "connect", "docker_package", "explained", "reject_errors", "settings_files"]

_DOCKER_SOCKET: Final = "/var/run/docker.sock"
_PATIENCE: Final = 20.0
_PAUSE: Final = 0.01
_IDLE: Final = 60
_REQUEST_SECONDS: Final = 600
_CONTEXT_HINT: Final = "list the contexts: docker context ls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A client, where it is connected to, and the socket of the service that was started for it."""

    client: APIClient
    url: str
    own_service: str | None = None

    @property
    def lasting_socket(self) -> str | None:
        """The socket of a service that was there before klock, and will be there for the next one."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") and self.own_service is None else None

    @property
    def is_usable(self) -> bool:
        """False when the service of klock's own has ended because nobody used it."""
        return self.own_service is None or _listens(self.own_service)


def connect(name: str, environ: Mapping[str, str]) -> Connection:
    """Connects to the engine `name`, podman or docker. Raises EngineError when there is none."""
    docker = docker_package(name)
    own = None
    url = _docker_url(environ) if name == "docker" else _podman_url(environ)
    if url is None:
        own = _own_service(environ)
        url = f"unix://{own}"
    import requests

    try:
        return Connection(client=_client(url), url=url, own_service=own)
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise EngineError(f"{name} does not answer at {url}", hint=_HINTS[name]) from error


def _client(url: str) -> APIClient:
    """A client that speaks the engine's version of the API.

    The version is taken from a ping. The client itself would ask for `/version`, which takes podman half a second: it
    looks up from which of the system's packages its helpers come.
    """
    import docker

    options = {"base_url": url, "timeout": _REQUEST_SECONDS}
    asking = docker.APIClient(version=docker.constants.DEFAULT_DOCKER_API_VERSION, **options)
    try:
        answer = asking.get(f"{asking.base_url}/_ping")
        version = answer.headers.get("Api-Version")
    finally:
        asking.close()
    return docker.APIClient(version=version if answer.ok and version else "auto", **options)


def docker_package(name: str) -> ModuleType:
    """The package that speaks the Docker-compatible API. Raises EngineError where klock was installed without it."""
    try:
        import docker
    except ModuleNotFoundError as error:
        raise EngineError(
            f"the engine {name} needs a package that is not installed: docker",
            hint=missing_extra_hint("containers"),
        ) from error
    package: ModuleType = docker
    return package


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turns what the client raises into errors of klock's."""
    docker = docker_package(name)
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(f"{name} refused: {error.explanation or error}", hint=f"see what {name} logs") from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise EngineError(f"the connection to {name} broke: {error}", hint=f"see whether {name} still runs") from error


_HINTS: Final = {
    "docker": "start it (systemctl start docker), or set DOCKER_HOST to where it listens",
    "podman": "start its service (systemctl --user start podman.socket), or set CONTAINER_HOST to where it listens",
}


def _docker_url(environ: Mapping[str, str]) -> str:
    """In the order of docker's own program."""
    if url := environ.get("DOCKER_HOST"):
        return _reachable(url, "DOCKER_HOST", has_tls=bool(environ.get("DOCKER_TLS_VERIFY")))
    name = environ.get("DOCKER_CONTEXT") or _current_context()
    if name != "default":
        return _context_url(name)
    if not Path(_DOCKER_SOCKET).exists():
        raise EngineError(
            f"there is no docker here: no {_DOCKER_SOCKET}, no docker context, and DOCKER_HOST is not set",
            hint="install docker and start it, set DOCKER_HOST, or use another engine (--engine sandbox)",
        )
    return f"unix://{_DOCKER_SOCKET}"


def _current_context() -> str:
    """What `docker context use` set."""
    from docker.context.config import get_current_context_name

    return str(get_current_context_name())


def settings_files(name: str, environ: Mapping[str, str]) -> list[Path] | None:
    """The files, there or not, that decide where the engine is; None when they are more than these."""
    if name == "podman" or environ.get("DOCKER_HOST"):
        return []
    if (environ.get("DOCKER_CONTEXT") or _current_context()) != "default":
        return None
    home = Path.home()
    folder = environ.get("DOCKER_CONFIG")
    return [Path(folder) / "config.json" if folder else home / ".docker/config.json", home / ".dockercfg"]


def _context_url(name: str) -> str:
    from docker.context import ContextAPI

    try:
        context = ContextAPI.get_context(name)
    except Exception as error:  # of no class of its own, for a file that cannot be read
        raise EngineError(f"the docker context {name} cannot be read: {error}", hint=_CONTEXT_HINT) from error
    if context is None:
        raise EngineError(f"there is no docker context {name}", hint=_CONTEXT_HINT)
    return _reachable(str(context.Host), f"the docker context {name}", has_tls=context.TLSConfig is not None)


def _reachable(url: str, origin: str, *, has_tls: bool) -> str:
    """The URL, when a command's streams can be passed there: Python's TLS cannot close one direction alone."""
    if has_tls or not url.startswith(("unix://", "tcp://", "http://")):
        raise EngineError(
            f"{origin} is at {url}{' with TLS' if has_tls else ''}; klock supports only Unix sockets and plain TCP",
            hint="make a tunnel, ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST, and set "
            "DOCKER_HOST=unix:///tmp/docker.sock",
        )
    return url


def _podman_url(environ: Mapping[str, str]) -> str | None:
    """None when no service runs."""
    if url := environ.get("CONTAINER_HOST"):
        return url
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    own = "/run/podman/podman.sock" if os.getuid() == 0 else f"{runtime}/podman/podman.sock"
    return f"unix://{own}" if _listens(own) else None


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as end:
        return end.connect_ex(path) == 0


def _own_service(environ: Mapping[str, str]) -> str:
    """Starts podman's service on a socket that nobody else knows, until klock ends."""
    program = shutil.which("podman", path=environ.get("PATH"))
    if program is None:
        raise EngineError("podman is not installed", hint="run `apt-get install podman`")
    stack = ExitStack()
    folder = stack.enter_context(temporary_folder("podman"))
    path, log = f"{folder}/podman.sock", folder / "log"
    parent = os.getpid()
    with open(log, "wb") as output:
        service = subprocess.Popen(
            [program, "system", "service", f"--time={_IDLE}", f"unix://{path}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            preexec_fn=lambda: linux.die_with_parent(parent),  # noqa: PLW1509 - klock has one thread
            # Signals of the terminal are for klock, which has containers to remove before the service may go.
            start_new_session=True,
        )
    atexit.register(_end, service, stack, parent)
    deadline = time.monotonic() + _PATIENCE
    while not _listens(path):
        if service.poll() is not None or time.monotonic() > deadline:
            words = log.read_text("utf-8", "replace").strip()[-2000:]
            raise EngineError(
                f"podman's service does not start: {words or 'no output'}", hint="run `podman info` to see why"
            )
        time.sleep(_PAUSE)
    return path


def _end(service: subprocess.Popen[bytes], stack: ExitStack, owner: int) -> None:
    if os.getpid() != owner:  # a fork of klock's
        return
    with suppress(ProcessLookupError):
        service.terminate()
    try:
        service.wait(5)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()
    stack.close()


def reject_errors(name: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Reads what an operation of the engine `name` says to its end. Raises EngineError when it is an error."""
    for line in lines:
        if message := line.get("error"):
            raise EngineError(f"{name} refused the image: {message}", hint=f"see what {name} logs, and its free space")
