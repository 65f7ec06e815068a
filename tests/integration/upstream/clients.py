"""A base image with the programs people fetch things with, made once, then kept in the tests' cache.

Debian with apt, curl, wget, git, Python with requests, pip and venv, node, npm and uv.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import Final

import pytest
import uv

from tests.integration.debian_image import CONFIG, EPOCH, run_mmdebstrap
from tests.integration.registry_server import write_layout
from tests.integration.unprivileged import require_program
from tests.run_folder import made_once, make_readable, test_cache

__all__ = ["clients_layout"]

_PACKAGES: Final = (
    "python3,python3-pip,python3-venv,python3-setuptools,python3-wheel,python3-requests,"
    "ca-certificates,curl,wget,git,nodejs"
)
# Debian's npm has 300 packages around it; npm's own has none.
_NPM: Final = "https://registry.npmjs.org/npm/-/npm-10.9.2.tgz"
_NPM_SHA256: Final = "5cd1e5ab971ea6333f910bc2d50700167c5ef4e66da279b2a3efc874c6b116e4"
_RECIPE: Final = (
    "mmdebstrap",
    "--variant=minbase",
    f"--include={_PACKAGES}",
    "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    # mmdebstrap copies these from the host.
    "--customize-hook=: > $1/etc/resolv.conf; : > $1/etc/hostname",
    '--customize-hook=mkdir -p "$1/usr/lib/node_modules/npm"',
    '--customize-hook=tar -x --no-same-owner --strip-components=1 -C "$1/usr/lib/node_modules/npm" -f ./npm.tgz',
    '--customize-hook=for s in npm npx; do ln -s ../lib/node_modules/npm/bin/$s-cli.js "$1/usr/bin/$s"; done',
    '--customize-hook=cp ./uv "$1/usr/bin/uv" && chmod 0755 "$1/usr/bin/uv"',
    "bookworm",
)


def clients_layout() -> Path:
    """The image in an OCI layout folder (image-spec, image-layout.md) that everybody can read."""
    require_program("mmdebstrap", package="mmdebstrap")
    own_uv = Path(uv.find_uv_bin())
    recipe = hashlib.sha256("\0".join((EPOCH, *_RECIPE, _NPM_SHA256, str(own_uv.stat().st_size))).encode())
    final = test_cache() / f"debian-clients-{recipe.hexdigest()[:12]}.oci"
    return made_once(final, lambda layout: _make(layout, own_uv))


def _make(layout: Path, own_uv: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=layout.name, dir=layout.parent) as folder:
        base = _make_base(Path(folder), own_uv)
        write_layout(layout, {None: [base]}, config=CONFIG, tag="clients")
    make_readable(layout)


def _make_base(folder: Path, own_uv: Path) -> Path:
    folder.chmod(0o755)
    with urllib.request.urlopen(_NPM) as response:
        tarball = response.read()
    if hashlib.sha256(tarball).hexdigest() != _NPM_SHA256:
        pytest.fail(f"{_NPM} has other bytes than it had", pytrace=False)
    (folder / "npm.tgz").write_bytes(tarball)
    shutil.copy(own_uv, folder / "uv")
    run_mmdebstrap([*_RECIPE, "base.tar"], folder=folder)
    return folder / "base.tar"
