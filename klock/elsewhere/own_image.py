"""An image with klock in it: made once from an image with Python, and again when klock or its packages change."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from klock.digests import digest_of_json, hex_of
from klock.elsewhere import launcher_script, own_files
from klock.errors import EngineError
from klock.places.containers.client import EngineClient
from klock.places.containers.connection import docker_package, explained, reject_errors
from klock.progress import Progress

__all__ = ["FOLDER", "PACKAGES", "archive_of", "make_image"]

BASE_VARIABLE: Final = "KLOCK_WORKSHOP_IMAGE"
_BASE: Final = "docker.io/library/python:3.12-slim-bookworm"
_NAME: Final = "localhost/klock-workshop"

FOLDER: Final = "/klock"
"""Where everything is in a container."""
PACKAGES: Final = "/klock/packages"

_PROBE: Final = """\
import json, platform, sys
print(json.dumps([sys.platform, platform.machine(), list(sys.version_info[:2])]))
"""
_SETUP: Final = f"""\
set -e
if ! command -v bwrap >/dev/null; then
    command -v apt-get >/dev/null || {{ echo "it has no bubblewrap (bwrap), and no apt-get to install it"; exit 1; }}
    apt-get -q update && apt-get -q install -y --no-install-recommends bubblewrap
fi
if [ -s {FOLDER}/requirements.txt ]; then
    python3 -m pip install -q --no-deps --only-binary :all: --target {PACKAGES} -r {FOLDER}/requirements.txt
fi
PYTHONPATH={PACKAGES} python3 -c 'import klock.commands.lock, klock.locking'
PYTHONPATH={PACKAGES} python3 -m compileall -q {PACKAGES} || true
"""
_VERSION: Final = 1
"""The version of this way to make the image."""
_LAST_LINES: Final = 15


def make_image(client: EngineClient, environ: Mapping[str, str], certificates: bytes | None, progress: Progress) -> str:
    """The name of the image. Raises EngineError when it cannot be made."""
    base = environ.get(BASE_VARIABLE) or _BASE
    found = client.image(base) or _pulled(client, base, progress)
    facts = [_VERSION, found["Id"], own_files.klock_digest(), own_files.versions(), launcher_script.__doc__]
    tag = hex_of(digest_of_json(facts))[:16]
    name = f"{_NAME}:{tag}"
    if client.image(name) is None:
        progress.begin(f"put klock into {base}")
        _make(client, base, tag, certificates)
        progress.done(name)
    return name


def archive_of(files: Iterable[tuple[str, bytes | Path]]) -> bytes:
    """A tar archive of files, by absolute path, and the folders above them, all of them root's."""
    written = io.BytesIO()
    folders: set[str] = set()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for path, content in files:
            parts = path.strip("/").split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                if folder not in folders:
                    folders.add(folder)
                    member = tarfile.TarInfo(folder)
                    member.type, member.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(member)
            data = content if isinstance(content, bytes) else content.read_bytes()
            member = tarfile.TarInfo("/".join(parts))
            member.size = len(data)
            member.mode = 0o644 if isinstance(content, bytes) else 0o755 if content.stat().st_mode & 0o100 else 0o644
            archive.addfile(member, io.BytesIO(data))
    return written.getvalue()[: archive.offset]


def _pulled(client: EngineClient, base: str, progress: Progress) -> dict[str, Any]:
    progress.begin(f"pull {base}")
    with explained(client.engine):
        reject_errors(client.engine, client.api.pull(base, stream=True, decode=True))
    found = client.image(base)
    if found is None:
        raise EngineError(
            f"{client.engine} has no image {base}",
            hint=f"name another image that has Python 3.11 or newer with {BASE_VARIABLE}",
        )
    progress.done(str(found["Id"]))
    return found


def _make(client: EngineClient, base: str, tag: str, certificates: bytes | None) -> None:
    fits = _has_this_python(client, base)
    with explained(client.engine), _container(client, base, ["/bin/sh", f"{FOLDER}/setup"], certificates) as container:
        client.api.put_archive(container, "/", archive_of(_own(fits=fits, certificates=certificates)))
        client.api.start(container)
        status = int(client.api.wait(container)["StatusCode"])
        if status != 0:
            said = client.api.logs(container, tail=_LAST_LINES).decode("utf-8", "replace").strip()
            raise EngineError(
                f"klock cannot be put into {base}: {said}", hint=f"name another image with {BASE_VARIABLE}"
            )
        client.api.commit(container, repository=_NAME, tag=tag)


def _own(*, fits: bool, certificates: bytes | None) -> Iterator[tuple[str, bytes | Path]]:
    """klock, and its packages: as they are here for a Python like this one, or else as requirements for pip."""
    yield f"{FOLDER}/setup", _SETUP.encode()
    yield f"{FOLDER}/launch.py", Path(launcher_script.__file__)
    if certificates is not None:
        yield f"{FOLDER}/ca.pem", certificates
    yield from ((f"{PACKAGES}/{name}", path) for name, path in own_files.klock_files())
    if not fits:
        yield f"{FOLDER}/requirements.txt", "".join(f"{line}\n" for line in own_files.versions()).encode()
        return
    for distribution in own_files.distributions().values():
        yield from ((f"{PACKAGES}/{name}", path) for name, path in own_files.files_of(distribution))


def _has_this_python(client: EngineClient, base: str) -> bool:
    """Whether packages that are installed here can run there. Raises EngineError where no Python is new enough."""
    docker = docker_package(client.engine)
    with explained(client.engine), _container(client, base, ["python3", "-c", _PROBE], None) as container:
        try:
            client.api.start(container)
            status = int(client.api.wait(container)["StatusCode"])
        except docker.errors.APIError:
            status = 127
        said = client.api.logs(container, stdout=True, stderr=False) if status == 0 else b""
    try:
        system, machine, version = json.loads(said)
        is_new = tuple(version) >= (3, 11)
    except (ValueError, TypeError):
        is_new = False
    if not is_new:
        raise EngineError(
            f"{base} has no Python 3.11 or newer, so klock cannot run in it",
            hint=f"name another image with {BASE_VARIABLE}",
        )
    import platform

    return [system, machine, version] == [sys.platform, platform.machine(), list(sys.version_info[:2])]


@contextmanager
def _container(client: EngineClient, image: str, command: list[str], certificates: bytes | None) -> Iterator[str]:
    variables = {"PIP_CERT": f"{FOLDER}/ca.pem", "SSL_CERT_FILE": f"{FOLDER}/ca.pem"} if certificates else {}
    make: Callable[..., Any] = client.container
    with make(
        "workshop",
        image=image,
        entrypoint=[""],
        command=command,
        user="0",
        environment=[f"{name}={value}" for name, value in variables.items()],
        host_config=client.api.create_host_config(network_mode="host"),
    ) as container:
        yield container
