"""The base image of most tests: Debian bookworm with Python, pip, venv and certificates. Made once, then kept.

    python -m tests.integration.debian_image

makes all images that are kept in the tests' cache, which takes minutes: `make test` does so beside the unit tests.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.integration.registry_server import write_layout
from tests.integration.unprivileged import require_program
from tests.run_folder import made_once, make_readable, test_cache

__all__ = ["CONFIG", "EPOCH", "debian_layout", "debian_platforms_layout", "debian_rootfs", "run_mmdebstrap"]

_PACKAGES: Final = "usr-is-merged,python3,python3-venv,python3-pip,ca-certificates"
EPOCH: Final = "1700000000"
_RECIPE: Final = (
    "mmdebstrap",
    "--variant=minbase",
    f"--include={_PACKAGES}",
    "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/zoneinfo/right/*",
    "--dpkgopt=path-exclude=/usr/lib/*/gconv/*",
    # mmdebstrap takes usrmerge where Debian's own images have usr-is-merged; that needs all of Perl, a third of files.
    '--customize-hook=chroot "$1" dpkg --purge usrmerge perl perl-modules-5.36 libperl5.36 libfile-find-rule-perl'
    " libnumber-compare-perl libtext-glob-perl",
    # mmdebstrap copies these from the host.
    "--customize-hook=: > $1/etc/resolv.conf; : > $1/etc/hostname",
    "bookworm",
)
CONFIG: Final = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
    "WorkingDir": "/work",
}


def debian_rootfs() -> Path:
    """A root file system as a tar file."""
    recipe = hashlib.sha256("\0".join((EPOCH, *_RECIPE)).encode()).hexdigest()[:12]
    require_program("mmdebstrap", package="mmdebstrap")

    def make(archive: Path) -> None:
        run_mmdebstrap([*_RECIPE, str(archive)], folder=archive.parent)
        archive.chmod(0o644)

    return made_once(test_cache() / f"debian-bookworm-{recipe}.tar", make)


def debian_layout() -> Path:
    """The same as an image in an OCI layout folder (image-spec, image-layout.md), tagged `bookworm`: one gzip layer."""
    return _layout(".oci", [None])


def debian_platforms_layout() -> Path:
    """A layout with that image for linux/amd64, and once more, as if it were for linux/arm64."""
    return _layout(".platforms.oci", ["linux/amd64", "linux/arm64"])


def run_mmdebstrap(command: Sequence[str], *, folder: Path) -> None:
    """Makes a root file system in which nothing is newer than EPOCH."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stderr[-4000:]}", pytrace=False)


def _layout(suffix: str, platforms: Sequence[str | None]) -> Path:
    rootfs = debian_rootfs()

    def make(layout: Path) -> None:
        write_layout(layout, {platform: [rootfs] for platform in platforms}, config=CONFIG, tag="bookworm")
        make_readable(layout)

    return made_once(rootfs.with_suffix(suffix), make)


def _make_all() -> None:
    from tests.integration.kubetorch_packages import KUBETORCHES, kubetorch_folder
    from tests.integration.upstream.clients import clients_layout

    debian_layout()
    clients_layout()
    for version in KUBETORCHES:
        kubetorch_folder(version)


if __name__ == "__main__":
    _make_all()
