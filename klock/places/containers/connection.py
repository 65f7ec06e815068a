"""The connection to a container engine, through the Docker-compatible API that both engines speak.

Straight to where the engine is (`klock.places.containers.address`), or through a socket of klock's own, to a service or
a tunnel that was started for this process and ends with it (`klock.places.containers.tunnels`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from klock.errors import EngineError
from klock.extras import missing_extra_hint
from klock.places.containers import tunnels
from klock.places.containers.address import Address, docker_address, listens, podman_address
from klock.values import dataclass

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["Connection", "connect", "docker_package", "explained", "reject_errors"]

_REQUEST_SECONDS: Final = 600


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
        return self.own_service is None or listens(self.own_service)


def connect(name: str, environ: Mapping[str, str]) -> Connection:
    """Connects to the engine `name`, podman or docker. Raises EngineError when there is none."""
    docker = docker_package(name)
    address = docker_address(environ) if name == "docker" else podman_address(environ)
    own = _own_socket(address, environ)
    url = f"unix://{own}" if own or address is None else address.url
    import requests

    try:
        return Connection(client=_client(url), url=url, own_service=own)
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        where = address.url if address else url
        raise EngineError(f"{name} does not answer at {where}", hint=_HINTS[name]) from error


def _own_socket(address: Address | None, environ: Mapping[str, str]) -> str | None:
    """The socket of a service or a tunnel that is started for this process, where one is needed."""
    if address is None:
        return tunnels.podman_service(environ)
    if address.scheme == "ssh":
        return tunnels.ssh_tunnel(address, environ)
    return tunnels.tls_tunnel(address) if address.certificates is not None else None


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


def reject_errors(name: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Reads what an operation of the engine `name` says to its end. Raises EngineError when it is an error."""
    for line in lines:
        if message := line.get("error"):
            raise EngineError(f"{name} refused the image: {message}", hint=f"see what {name} logs, and its free space")
