"""What the tests of the sandbox engine share: archives made in memory, and a real base that is unpacked once."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from klock.digests import Digest, digest_of_bytes
from klock.store import Store
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import BaseLayer, Command, Completed, Mount, Network, Workspace
from klock.workshop.scratch import remove_trees

__all__ = ["BASE", "TAR", "Archive", "base_layer", "command", "debian_engine", "member", "python", "shell"]

BASE = digest_of_bytes(b"the base of the tests")
TAR = "application/vnd.oci.image.layer.v1.tar"
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
def debian_engine(debian_rootfs_tar: Path) -> Iterator[SandboxWorkshop]:
    """An engine whose store holds a real Debian as the base `BASE`."""
    folder = Path(tempfile.mkdtemp(prefix="klock-sandbox-"))
    engine = SandboxWorkshop(Store(folder / "store"))
    with open(debian_rootfs_tar, "rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    engine.add_base(BASE, [BaseLayer(path=debian_rootfs_tar, media_type=TAR, diff_id=digest)])
    yield engine
    remove_trees([folder / "store"])
    shutil.rmtree(folder)


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
