"""What the reference's examples name, served from this machine: base images, and small stand-ins for giants.

The images are Debian with Python, pip and a shell, under the names of the examples; with nvcr.io's comes a vendor's
torch and the constraints NVIDIA's images have, and Ubuntu's has an archive of its own, with a stand-in for a compiler.
What is small is not here: it comes from PyPI.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.private_names import PrivateNames
from tests.integration.registry_server import Registry, registry
from tests.integration.upstream.debian_archive import KEY, file_server, make_archive

__all__ = ["ARCHIVE", "PASSWORD", "USER", "VENDOR_TORCH", "ExampleServers", "example_servers"]

USER: Final = "registry-bob"
PASSWORD: Final = "hunter2-Zk9vQ"
VENDOR_TORCH: Final = "2.5.0a0+872d972e41.nv24.8"

ARCHIVE: Final = "packages.my-pypi.com"
"""The host of the Debian archive that the Ubuntu image installs from."""

_PYPI: Final = "https://pypi.org/simple/"
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIST_PACKAGES: Final = "usr/local/lib/python3.11/dist-packages"
_SITE: Final[Mapping[str, bytes | None]] = {
    # Debian forbids pip to install for the system (PEP 668); these images are made for it.
    "usr/lib/python3.11/EXTERNALLY-MANAGED": None,
}
_SCIENCE: Final = {"numpy": "2.1.1", "scipy": "1.14.1", "pandas": "2.2.3", "matplotlib": "3.9.2"}
_TOOL: Final = {"DEBIAN/control": ""}
_TOOLS: Final[Mapping[str, Mapping[str, str]]] = {
    "build-essential": {**_TOOL, "usr/bin/cc": "#!/bin/sh\n", "usr/bin/make": "#!/bin/sh\n"},
    "cmake": {**_TOOL, "usr/bin/cmake": "#!/bin/sh\n"},
}


@dataclass(frozen=True, kw_only=True)
class ExampleServers:
    """`company` is an index that has torch and other giants, and sends on to PyPI for the rest. my-pypi.com and
    my-registry.com are reached through `names` only."""

    registry: Registry
    company: IndexServer
    names: PrivateNames

    @property
    def mirrors(self) -> dict[str, str]:
        return dict.fromkeys(("docker.io", "ghcr.io", "nvcr.io"), self.registry.url)


@contextmanager
def example_servers(folder: Path, layout: Path) -> Iterator[ExampleServers]:
    """Runs them until the block ends. `layout` is the Debian image the base images are made of."""
    giants, private = folder / "giants", folder / "private"
    giants.mkdir(parents=True)
    private.mkdir()
    _make_giants(giants)
    for version in ("1.2.3", "1.3.0"):
        make_wheel(private, "my-private-package", version, requires=["iniconfig>=2"])
    # Others may have port 443 of 127.0.0.1; each run of the tests has addresses of its own.
    third = f"127.{os.getpid() >> 8 & 0x7F | 0x80}.{os.getpid() & 0xFF}"
    addresses = {"my-pypi.com": f"{third}.1", "my-registry.com": f"{third}.2", ARCHIVE: f"{third}.3"}
    archive = make_archive(folder / "archive", _TOOLS)
    names = PrivateNames(folder, addresses)

    def address(name: str) -> dict[str, Any]:
        return {"address": (addresses[name], 443), "tls": names.server_context(name)}

    with ExitStack() as stack:
        server = stack.enter_context(registry(folder))
        _push_images(server, layout, folder, (archive / KEY).read_bytes())
        stack.enter_context(file_server(folder / "archive", (addresses[ARCHIVE], 80)))
        company = stack.enter_context(IndexServer(giants, upstream=_PYPI))
        stack.enter_context(IndexServer(giants, **address("my-pypi.com")))
        stack.enter_context(IndexServer(private, username=USER, password=PASSWORD, **address("my-registry.com")))
        yield ExampleServers(registry=server, company=company, names=names)


def _make_giants(folder: Path) -> None:
    make_wheel(folder, "torch", "2.4.1")
    make_wheel(folder, "torchvision", "0.19.1", requires=["torch==2.4.1"])
    make_wheel(folder, "torchaudio", "2.4.1", requires=["torch==2.4.1"])
    make_wheel(folder, "transformers", "4.46.0", requires=["packaging>=20.0", "tqdm>=4.27"])
    make_wheel(folder, "datasets", "3.1.0", requires=["tqdm>=4.60", "packaging"])
    make_wheel(folder, "accelerate", "1.1.0", requires=["torch>=1.10", "packaging>=20.0"])
    for name, version in _SCIENCE.items():
        make_wheel(folder, name, version)
    make_wheel(folder, "scikit-learn", "1.5.2", requires=["numpy", "scipy"], files={"sklearn/__init__.py": ""})
    make_wheel(folder, "wandb", "0.18.5", requires=["click>=7.1"], scripts={"wandb": "wandb:main"})


def _push_images(server: Registry, layout: Path, folder: Path, key: bytes) -> None:
    source = f"deb [signed-by=/etc/apt/upstream.asc] http://{ARCHIVE}/debian stable main\n"
    apt = {"etc/apt/sources.list": source.encode(), "etc/apt/upstream.asc": key}
    vendor = {**_SITE, **_vendor_torch(folder), "etc/pip/constraint.txt": b"# NVIDIA's\ntqdm==4.66.5\n"}
    ngc = {"Env": [_PATH, "PIP_CONSTRAINT=/etc/pip/constraint.txt", "NVIDIA_VISIBLE_DEVICES=all"]}
    images: list[tuple[str, str, Mapping[str, bytes | None], dict[str, Any]]] = [
        ("library/python", "3.12-slim", _SITE, {"Env": [_PATH, "LANG=C.UTF-8"]}),
        ("run-house/server", "v3", _SITE, {"Env": [_PATH], "WorkingDir": "/root"}),
        ("run-house/ubuntu", "v1", {**_SITE, **apt}, {"Env": [_PATH], "WorkingDir": "/"}),
        ("nvidia/pytorch", "24.08-py3", vendor, {**ngc, "WorkingDir": "/workspace"}),
    ]
    for name, tag, files, config in images:
        derived = folder / f"image-{tag}"
        _derive_image(layout, derived, files, config)
        server.push_layout(derived, name, tag)


def _vendor_torch(folder: Path) -> dict[str, bytes]:
    """A torch as installed from no index anyone else can reach."""
    (folder / "vendor").mkdir()
    with zipfile.ZipFile(make_wheel(folder / "vendor", "torch", VENDOR_TORCH)) as wheel:
        return {f"{_DIST_PACKAGES}/{name}": wheel.read(name) for name in wheel.namelist()}


def _derive_image(layout: Path, folder: Path, files: Mapping[str, bytes | None], config: Mapping[str, Any]) -> None:
    """An OCI layout of the image in `layout` with one more layer: `files`, None for those it takes away (image-spec,
    layer.md, "Whiteouts")."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    for blob in (layout / "blobs/sha256").iterdir():
        (blobs / blob.name).symlink_to(blob)

    def read(descriptor: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((blobs / descriptor["digest"].removeprefix("sha256:")).read_bytes())
        return found

    def write(content: bytes) -> dict[str, Any]:
        digits = hashlib.sha256(content).hexdigest()
        (blobs / digits).write_bytes(content)
        return {"digest": f"sha256:{digits}", "size": len(content)}

    (top,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = read(top)
    image = read(manifest["config"])
    tar = _tar(files)
    image["config"] = dict(config)
    image["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
    layer = {"mediaType": manifest["layers"][0]["mediaType"], **write(gzip.compress(tar, mtime=0))}
    manifest["layers"].append(layer)
    manifest["config"] |= write(json.dumps(image).encode())
    index = {"schemaVersion": 2, "manifests": [{**top, **write(json.dumps(manifest).encode())}]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def _tar(files: Mapping[str, bytes | None]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in sorted(files.items()):
            above, _, name = path.rpartition("/")
            member = tarfile.TarInfo(path if content is not None else f"{above}/.wh.{name}")
            member.size = len(content or b"")
            archive.addfile(member, io.BytesIO(content or b""))
    return stream.getvalue()
