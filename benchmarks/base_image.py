"""A real base image in a real registry on loopback: Debian with its Python, as `library/python:3.12-slim`.

No other registry is needed. Debian's own Python stands in for 3.12: the name is what the example asks for, and what is
measured does not depend on the version.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.integration.registry_server import Registry, registry, write_layout

__all__ = ["IMAGE", "SUITE", "registry_with_base"]

SUITE: Final = "bookworm"
IMAGE: Final = ("library/python", "3.12-slim")
_RECIPE: Final = (
    "mmdebstrap",
    "--variant=minbase",
    "--include=python3,python3-venv,python3-pip,ca-certificates",
    "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
    # mmdebstrap copies these from the host.
    "--customize-hook=: > $1/etc/resolv.conf; : > $1/etc/hostname",
    SUITE,
)
_CONFIG: Final = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]}


@contextmanager
def registry_with_base(folder: Path, *, cache: Path) -> Iterator[Registry]:
    """Runs the registry, with its files below `folder`, until the block ends. The root file system is kept in `cache`
    for other runs."""
    tar = cache / f"benchmark-{SUITE}.tar"
    if not tar.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = tar.with_suffix(f".{os.getpid()}.tar")
        try:
            subprocess.run([*_RECIPE, str(partial)], env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}, check=True)
            partial.replace(tar)
        finally:
            partial.unlink(missing_ok=True)
    with registry(folder) as server:
        name, tag = IMAGE
        layout = folder / "layout"
        write_layout(layout, {None: [tar]}, config=_CONFIG)
        _add_history(layout)
        server.push_layout(layout, name, tag)
        yield server


def _add_history(layout: Path) -> None:
    """Gives the image the history that built images have (image-spec, config.md): without it podman caches nothing."""
    blobs = layout / "blobs/sha256"
    index = json.loads((layout / "index.json").read_bytes())
    (top,) = index["manifests"]
    manifest = _read(blobs, top)
    config = _read(blobs, manifest["config"])
    config["history"] = [{"created_by": "mmdebstrap"}]
    manifest["config"].update(_write(blobs, config))
    top.update(_write(blobs, manifest))
    (layout / "index.json").write_text(json.dumps(index))


def _read(blobs: Path, descriptor: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((blobs / descriptor["digest"].removeprefix("sha256:")).read_bytes())
    return content


def _write(blobs: Path, document: dict[str, Any]) -> dict[str, Any]:
    content = json.dumps(document).encode()
    digits = hashlib.sha256(content).hexdigest()
    (blobs / digits).write_bytes(content)
    return {"digest": f"sha256:{digits}", "size": len(content)}
