"""A real registry (Debian's `docker-registry`) on a free loopback port, with images pushed by skopeo.

    with registry(tmp_path) as server:
        server.push_rootfs(tar, "library/python", "3.12-slim", config={"Env": ["A=1"]})
        server.push_layout(folder, "team/tool", "v1")
        server.host                     # 127.0.0.1:PORT
        server.url                      # http://127.0.0.1:PORT, as a mirror's URL
        server.requests()               # ("GET", "/v2/team/tool/manifests/v1"), in order

`write_image` and `write_layout` make the folders. With `password` the registry asks for Basic authentication, of
`user` with the password `secret`; with `tls`, a certificate and its key, it speaks https alone.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.integration.unprivileged import require_program

__all__ = ["Registry", "registry", "write_image", "write_layout"]

_KIND = "application/vnd.oci.image"
_HTPASSWD = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
_SMALL = 8 << 20
_REQUEST = re.compile(r'"(GET|HEAD|PUT|POST|PATCH|DELETE) (\S+) HTTP/1\.\d"')


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A running registry. `folder` holds its files and its log."""

    host: str
    folder: Path
    password: bool = False

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def push_layout(self, layout: Path, name: str, tag: str, *, layout_tag: str | None = None) -> None:
        """Pushes an image of an OCI layout folder, all its platforms, byte for byte."""
        source = f"oci:{layout}:{layout_tag}" if layout_tag else f"oci:{layout}"
        credentials = ["--dest-creds=user:secret"] if self.password else []
        command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests", *credentials]
        command += ["--dest-tls-verify=false", source, f"docker://{self.host}/{name}:{tag}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)}\n{done.stderr}", pytrace=False)

    def push_rootfs(
        self,
        tar: Path,
        name: str,
        tag: str,
        *,
        config: Mapping[str, Any] | None = None,
        platforms: Sequence[str] = (),
    ) -> None:
        """Pushes a tar file as an image of one layer. `config` has `Env`, `WorkingDir`, `User`. With `platforms` an
        index of such images, one for each, is pushed."""
        layout = self.folder / f"layout-{name.replace('/', '-')}-{tag}"
        write_layout(layout, {p: [tar] for p in platforms} or {None: [tar]}, config=config)
        self.push_layout(layout, name, tag)
        shutil.rmtree(layout)

    def requests(self) -> list[tuple[str, str]]:
        """What was asked for so far, by method and path."""
        log = (self.folder / "log").read_text("utf-8", "replace")
        return [(match[1], match[2]) for match in _REQUEST.finditer(log)]

    def forget_requests(self) -> None:
        (self.folder / "log").write_text("")


@contextmanager
def registry(folder: Path, *, password: bool = False, tls: tuple[Path, Path] | None = None) -> Iterator[Registry]:
    """Runs a registry that keeps its images below `folder` until the block ends."""
    program = require_program("docker-registry", package="docker-registry")
    require_program("skopeo", package="skopeo")
    home = folder / "registry"
    home.mkdir(parents=True)
    for _ in range(5):
        host = f"127.0.0.1:{_free_port()}"
        (home / "config.yml").write_text(_configuration(home, host, password=password, tls=tls))
        # Opened to append: `forget_requests` empties it while the registry writes.
        with open(home / "log", "ab") as log:
            process = subprocess.Popen(
                [program, "serve", home / "config.yml"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            if _answers(host, process, tls=tls is not None):
                yield Registry(host=host, folder=home, password=password)
                return
        finally:
            process.terminate()
            process.wait()
    pytest.fail(f"docker-registry does not start:\n{(home / 'log').read_text()}", pytrace=False)


def write_layout(
    folder: Path,
    platforms: Mapping[str | None, Sequence[Path]],
    *,
    config: Mapping[str, Any] | None = None,
    tag: str = "image",
) -> None:
    """An OCI layout folder with one image, tagged `tag`: for each platform the layers of these tar files, gzipped.

    With the platform None it is an image of this machine's platform and no index.
    """
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    manifests = [write_image(blobs, platform, layers, config=config) for platform, layers in platforms.items()]
    if None in platforms:
        (top,) = manifests
    else:
        index = {"schemaVersion": 2, "mediaType": f"{_KIND}.index.v1+json", "manifests": manifests}
        top = {"mediaType": f"{_KIND}.index.v1+json", **_write_blob(blobs, json.dumps(index).encode())}
    entry = {**top, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def write_image(
    blobs: Path, platform: str | None, tars: Sequence[Path], *, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes one image's blobs and returns its descriptor, with the platform unless that is None."""
    layers, diff_ids = [], []
    for tar in tars:
        content = tar.read_bytes()
        diff_ids.append(f"sha256:{hashlib.sha256(content).hexdigest()}")
        packed = _small_gzip(content) if len(content) < _SMALL else _gzip(content)
        layers.append({"mediaType": f"{_KIND}.layer.v1.tar+gzip", **_write_blob(blobs, packed)})
    os_name, _, architecture = (platform or f"linux/{_architecture()}").partition("/")
    image = {
        "os": os_name,
        "architecture": architecture,
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_KIND}.manifest.v1+json",
        "config": {"mediaType": f"{_KIND}.config.v1+json", **_write_blob(blobs, json.dumps(image).encode())},
        "layers": layers,
    }
    descriptor = {"mediaType": f"{_KIND}.manifest.v1+json", **_write_blob(blobs, json.dumps(manifest).encode())}
    if platform is not None:
        descriptor["platform"] = {"os": os_name, "architecture": architecture}
    return descriptor


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)


# The base of most images is the same static program.
_small_gzip = lru_cache(maxsize=8)(_gzip)


def _write_blob(blobs: Path, content: bytes) -> dict[str, Any]:
    digits = hashlib.sha256(content).hexdigest()
    (blobs / digits).write_bytes(content)
    return {"digest": f"sha256:{digits}", "size": len(content)}


def _architecture() -> str:
    from klock.targets import Target

    return Target.of_this_machine().architecture


def _configuration(home: Path, host: str, *, password: bool, tls: tuple[Path, Path] | None) -> str:
    configuration: dict[str, Any] = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}, "level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(home / "images")}, "delete": {"enabled": True}},
        "http": {"addr": host},
    }
    if tls is not None:
        configuration["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
    if password:
        (home / "htpasswd").write_text(_HTPASSWD)
        configuration["auth"] = {"htpasswd": {"realm": "klock tests", "path": str(home / "htpasswd")}}
    # JSON is YAML.
    return json.dumps(configuration)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(host: str, process: subprocess.Popen[bytes], *, tls: bool) -> bool:
    """Waits until the registry answers; False when it ended, such as for a port that was taken meanwhile."""
    while process.poll() is None:
        connection: http.client.HTTPConnection
        if tls:
            anybody = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(host, timeout=5, context=anybody)
        else:
            connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request("GET", "/v2/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.02)
        else:
            return True
        finally:
            connection.close()
    return False
