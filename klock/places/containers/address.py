"""Where a container engine is, as its own program finds out.

docker: `DOCKER_HOST` (with `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`), or the current context (`DOCKER_CONTEXT`,
`docker context use`), or its socket. podman: `CONTAINER_HOST`, or the socket of a running service.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from klock.errors import EngineError
from klock.values import dataclass

__all__ = ["Address", "Certificates", "docker_address", "listens", "podman_address", "settings_files"]

_DOCKER_SOCKET: Final = "/var/run/docker.sock"
_PODMAN_SOCKET: Final = "/run/podman/podman.sock"
_CONTEXT_HINT: Final = "list the contexts: docker context ls"
_PORTS: Final = {"ssh": 22, "tcp": 2376}


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """PEM files, of which some may be missing. Without `verifies` the server may be anybody."""

    authority: Path | None
    certificate: Path | None
    key: Path | None
    verifies: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL of the kind unix:, tcp: or ssh:. `origin` is what said so; `certificates` are for TLS, None for none."""

    url: str
    origin: str
    certificates: Certificates | None = None

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """As it is written: the names in ssh's settings are told apart by case."""
        parts = urlsplit(self.url)
        host, written = parts.hostname or "", parts.netloc.rpartition("@")[2]
        start = written.lower().find(host)
        return written[start : start + len(host)]

    @property
    def user(self) -> str | None:
        return urlsplit(self.url).username

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or _PORTS[self.scheme]

    @property
    def path(self) -> str:
        return urlsplit(self.url).path


def docker_address(environ: Mapping[str, str]) -> Address:
    """In the order of docker's own program. Raises EngineError."""
    if url := environ.get("DOCKER_HOST"):
        wants_tls = bool(environ.get("DOCKER_TLS_VERIFY"))
        return _checked(url, "DOCKER_HOST", _certificates(environ) if wants_tls else None, _DOCKER_SOCKET)
    name = environ.get("DOCKER_CONTEXT") or _current_context()
    if name != "default":
        return _of_context(name)
    if not Path(_DOCKER_SOCKET).exists():
        raise EngineError(
            f"there is no docker here: no {_DOCKER_SOCKET}, no docker context, and DOCKER_HOST is not set",
            hint="install docker and start it, set DOCKER_HOST, or use another engine (--engine sandbox)",
        )
    return Address(url=f"unix://{_DOCKER_SOCKET}", origin="docker's socket")


def podman_address(environ: Mapping[str, str]) -> Address | None:
    """None when no service runs. Raises EngineError."""
    if url := environ.get("CONTAINER_HOST"):
        return _checked(url, "CONTAINER_HOST", None, _PODMAN_SOCKET)
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    own = _PODMAN_SOCKET if os.getuid() == 0 else f"{runtime}/podman/podman.sock"
    return Address(url=f"unix://{own}", origin="podman's socket") if listens(own) else None


def settings_files(name: str, environ: Mapping[str, str]) -> list[Path] | None:
    """The files, there or not, that decide where the engine is; None when they are more than these."""
    if name == "podman" or environ.get("DOCKER_HOST"):
        return []
    if (environ.get("DOCKER_CONTEXT") or _current_context()) != "default":
        return None
    home = Path.home()
    folder = environ.get("DOCKER_CONFIG")
    return [Path(folder) / "config.json" if folder else home / ".docker/config.json", home / ".dockercfg"]


def listens(path: str) -> bool:
    """Whether a program answers at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as end:
        return end.connect_ex(path) == 0


def _current_context() -> str:
    """What `docker context use` set."""
    from docker.context.config import get_current_context_name

    return str(get_current_context_name())


def _of_context(name: str) -> Address:
    from docker.context import ContextAPI

    try:
        context = ContextAPI.get_context(name)
    except Exception as error:  # of no class of its own, for a file that cannot be read
        raise EngineError(f"the docker context {name} cannot be read: {error}", hint=_CONTEXT_HINT) from error
    if context is None:
        raise EngineError(f"there is no docker context {name}", hint=_CONTEXT_HINT)
    tls = context.TLSConfig
    certificates = None
    if tls is not None:
        pair: Any = getattr(tls, "cert", None) or (None, None)
        authority = getattr(tls, "ca_cert", None)
        certificates = Certificates(
            authority=authority and Path(authority),
            certificate=pair[0] and Path(pair[0]),
            key=pair[1] and Path(pair[1]),
            verifies=bool(tls.verify),
        )
    return _checked(str(context.Host), f"the docker context {name}", certificates, _DOCKER_SOCKET)


def _certificates(environ: Mapping[str, str]) -> Certificates:
    """The files where docker's program looks for them. Raises EngineError where one half of a pair is missing."""
    named = environ.get("DOCKER_CERT_PATH") or environ.get("DOCKER_CONFIG")
    folder = Path(named) if named else Path.home() / ".docker"
    authority, certificate, key = (
        path if (path := folder / name).is_file() else None for name in ("ca.pem", "cert.pem", "key.pem")
    )
    if (certificate is None) != (key is None):
        missing = "cert.pem" if certificate is None else "key.pem"
        raise EngineError(
            f"{folder} has no {missing}", hint="set DOCKER_CERT_PATH to the folder of docker's certificates"
        )
    return Certificates(authority=authority, certificate=certificate, key=key)


def _checked(url: str, origin: str, certificates: Certificates | None, socket_there: str) -> Address:
    """Raises EngineError for an address that klock cannot reach."""
    if url.startswith("http://"):
        url = f"tcp://{url.removeprefix('http://')}"
    if url.startswith("https://"):
        url = f"tcp://{url.removeprefix('https://')}"
        certificates = certificates or Certificates(authority=None, certificate=None, key=None)
    try:
        parts = urlsplit(url)
        is_known = parts.scheme == "unix" or (parts.scheme in ("tcp", "ssh") and parts.hostname and parts.port != 0)
    except ValueError:
        is_known = False
    if not is_known:
        raise EngineError(
            f"{origin} is {url!r}, which klock cannot connect to",
            hint="write unix:///PATH, tcp://HOST:PORT, or ssh://USER@HOST, or make a tunnel to a Unix socket",
        )
    if parts.scheme == "ssh" and parts.path in ("", "/"):
        url = url.rstrip("/") + socket_there
    return Address(url=url, origin=origin, certificates=certificates if parts.scheme == "tcp" else None)
