"""What the tests of the sandbox engine share: archives made in memory, and a real base that is unpacked once.

The base is Debian without what a test would only copy and hash: no package manager, no documentation, a third of the
files. `engine_with` and `unpack` make an engine of the whole.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from klock.digests import Digest, digest_of_bytes
from klock.store import Store
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import BaseLayer, Command, Completed, Mount, Network, Workspace
from klock.workshop.scratch import remove_trees
from tests.integration.conftest import copy_store
from tests.run_folder import made_once, run_folder

__all__ = [
    "BASE",
    "TAR",
    "Archive",
    "base_layer",
    "command",
    "debian_engine",
    "engine_with",
    "member",
    "programs_tar",
    "python",
    "shell",
    "unpack",
]

BASE = digest_of_bytes(b"the base of the tests")
TAR = "application/vnd.oci.image.layer.v1.tar"
_NEEDLESS = re.compile(
    r"\./usr/(share/.|s?bin/(perl|apt|dpkg|deb)|lib/(apt/|python3/dist-packages/|x86_64-linux-gnu/(perl|libapt-pkg))"
    r"|lib/python3\.11/(lib2to3|distutils|test|pydoc_data|ensurepip|idlelib|tkinter)/)|\./var/lib/(dpkg|apt)/"
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def member(name: str, kind: bytes = tarfile.REGTYPE, **attributes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


@dataclass(frozen=True, slots=True)
class Archive:
    """A layer archive: members, each with its content."""

    members: Sequence[tuple[tarfile.TarInfo, bytes]]

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for info, content in self.members:
                if content:
                    info.size = len(content)
                tar.addfile(info, io.BytesIO(content) if content else None)
        return buffer.getvalue()


def base_layer(folder: Path, content: bytes, *, media_type: str = TAR, diff_id: Digest | None = None) -> BaseLayer:
    path = folder / f"{hashlib.sha256(content).hexdigest()[:8]}.tar"
    path.write_bytes(content)
    return BaseLayer(path=path, media_type=media_type, diff_id=digest_of_bytes(content) if diff_id is None else diff_id)


@pytest.fixture(scope="session")
def programs_tar(debian_rootfs_tar: Path) -> Path:
    """The programs of a real Debian, and its Python, as a tar file."""

    def make(archive: Path) -> None:
        with tarfile.open(debian_rootfs_tar) as whole, tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as part:
            for found in whole:
                if not _NEEDLESS.match(found.name):
                    part.addfile(found, whole.extractfile(found) if found.isreg() else None)

    return made_once(debian_rootfs_tar.with_suffix(".programs.tar"), make)


@pytest.fixture(scope="module")
def debian_engine(programs_tar: Path) -> Iterator[SandboxWorkshop]:
    """An engine whose store holds these as the base `BASE`."""
    made = made_once(run_folder() / "programs", lambda store: unpack(programs_tar, store))
    with engine_with(lambda store: copy_store(made, store)) as engine:
        yield engine


@contextmanager
def engine_with(fill: Callable[[Path], None]) -> Iterator[SandboxWorkshop]:
    """An engine with a store that `fill` makes."""
    folder = Path(tempfile.mkdtemp(prefix="klock-sandbox-"))
    fill(folder / "store")
    yield SandboxWorkshop(Store(folder / "store"))
    remove_trees([folder / "store"])
    shutil.rmtree(folder)


def unpack(archive: Path, store: Path) -> None:
    """Unpacks a tar file in a store, as the base `BASE`."""
    with open(archive, "rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    SandboxWorkshop(Store(store)).add_base(BASE, [BaseLayer(path=archive, media_type=TAR, diff_id=digest)])


def command(
    *argv: str,
    network: Network = Network.NONE,
    environment: Mapping[str, str] | None = None,
    working_dir: str = "/",
    user: str = "",
    mounts: Sequence[Mount] = (),
) -> Command:
    return Command(
        argv=argv,
        environment={"PATH": PATH, "HOME": "/root", **(environment or {})},
        network=network,
        working_dir=working_dir,
        user=user,
        mounts=tuple(mounts),
    )


def shell(workspace: Workspace, script: str) -> Completed:
    """Runs a shell script that must succeed."""
    done = workspace.run(command("sh", "-euc", script))
    assert done.status == 0, done.output.decode()
    return done


def python(workspace: Workspace, script: str) -> Completed:
    """Runs a Python program that must succeed."""
    done = workspace.run(command("python3", "-Bc", f"import os\n{script}"))
    assert done.status == 0, done.output.decode()
    return done
