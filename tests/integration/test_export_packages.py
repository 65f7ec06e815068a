"""What klock locked, installed by uv and by pip from what it exports: the same versions and the same files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from klock.errors import KlockError
from klock.export.packages import left_out, to_pylock, to_requirements
from klock.lockfile.model import (
    DebianLock,
    LocalProject,
    LockedPackage,
    PipLock,
    SdistArtifact,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
)
from klock.steps.kind import UNKNOWN_LAYER
from klock.targets import Target
from klock.uv_program import uv_program
from tests.integration.index_server import IndexServer, make_wheel

EMPTY = WheelArtifact(name="x-1-py3-none-any.whl", url="", size=1, sha256="0" * 64)


def lock_of(*packages: LockedPackage) -> TargetLock:
    return TargetLock(
        target=Target.of_this_machine(),
        base=DebianLock(suite="bookworm", packages=(), debs=(), tree="sha256:" + "1" * 64),
        interpreter=None,
        steps=(),
        packages=packages,
    )


@pytest.mark.parametrize("installer", ["uv pylock", "pip pylock", "uv requirements", "pip requirements"])
def test_others_install_the_locked_files(tmp_path: Path, installer: str) -> None:
    files = tmp_path / "files"
    files.mkdir()
    locked = make_wheel(files, "lib", "1.0", files={"which.py": "locked"})
    make_wheel(files, "lib", "1.0", files={"which.py": "better"}, tag="py3-none-linux_x86_64")
    make_wheel(files, "lib", "2.0", files={"which.py": "newer"})
    direct = make_wheel(tmp_path, "direct", "1.0", requires=["nowhere"])
    elsewhere = make_wheel(tmp_path, "elsewhere", "1.0+cpu")
    # Each index has the other one's package, too, and not the locked version.
    make_wheel(tmp_path, "lib", "0.9")
    make_wheel(files, "elsewhere", "0.1")
    more = make_wheel(files, "more", "1.0")
    with IndexServer(files) as index, IndexServer(tmp_path) as other:
        packages = []
        for path, url, at in (
            (direct, other.url, None),
            (elsewhere, other.url, other.url.rstrip("/")),
            (locked, index.url, index.url.rstrip("/")),
            (more, index.url, index.url.rstrip("/")),
        ):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            wheel = WheelArtifact(
                name=path.name, url=f"{url[:-8]}/files/{quote(path.name)}", size=path.stat().st_size, sha256=digest
            )
            name, version, *_ = path.name.split("-")
            packages.append(LockedPackage(name=name, version=version, index=at, artifact=wheel))
        lock = lock_of(*packages, replace(packages[0], name="builder", build_only=True))
        name = "pylock.toml" if installer.endswith("pylock") else "requirements.txt"
        (tmp_path / name).write_text(to_pylock(lock) if installer.endswith("pylock") else to_requirements(lock))
        target = ["--target", tmp_path / "there", "--no-deps", "-r", name]
        uv = [uv_program(), "pip", "install", "--no-cache", "--no-config", "--python", sys.executable]
        pip = [sys.executable, "-m", "pip", "--isolated", "install", "--no-cache-dir", "--disable-pip-version-check"]
        command = [*(uv if installer.startswith("uv") else pip), *target]
        environment = {"HOME": os.fspath(tmp_path), "PATH": os.environ["PATH"]}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    installed = tmp_path / "there"
    assert sorted(path.name for path in installed.glob("*.dist-info")) == [
        "direct-1.0.dist-info",
        "elsewhere-1.0+cpu.dist-info",
        "lib-1.0.dist-info",
        "more-1.0.dist-info",
    ]
    assert (installed / "which.py").read_text() == "locked"


def test_sources_commits_and_projects() -> None:
    source = SdistArtifact(name="s-1.tar.gz", url="https://h/s-1.tar.gz", size=2, sha256="1" * 64, wheel=EMPTY)
    commit = VcsArtifact(type="git", url="https://h/c", commit="c" * 40, requested_revision="main", wheel=EMPTY)
    packages = [
        LockedPackage(name="s", version="1", index="https://h/simple", artifact=source),
        LockedPackage(name="c", version="1", index=None, artifact=commit),
    ]
    lock = lock_of(*packages)
    first, second = tomllib.loads(to_pylock(lock))["packages"]
    assert first["sdist"] == {
        **{"name": "s-1.tar.gz", "url": "https://h/s-1.tar.gz", "size": 2},
        "hashes": {"sha256": "1" * 64},
    }
    assert second["vcs"] == {
        **{"type": "git", "url": "https://h/c", "requested-revision": "main"},
        "commit-id": "c" * 40,
    }
    with pytest.raises(KlockError, match=r"^c==1 is a commit of https://h/c, and pip takes no commits beside hashes$"):
        to_requirements(lock)
    assert to_requirements(lock_of(packages[0])).splitlines()[1:] == [
        *("--index-url https://h/simple", "s==1 \\", f"    --hash=sha256:{'1' * 64}"),
    ]
    step = PipLock(
        requirements=(), packages=(), layer=UNKNOWN_LAYER, projects=(LocalProject(path="/p", name="mine", build=()),)
    )
    assert left_out(replace(lock, steps=(step,))) == ["mine"]
    folder = lock_of(replace(packages[0], index=None, artifact=replace(source, subdirectory="py")))
    assert tomllib.loads(to_pylock(folder))["packages"][0]["archive"]["subdirectory"] == "py"
    assert to_requirements(folder).splitlines()[1] == "s @ https://h/s-1.tar.gz#subdirectory=py \\"
    inside = replace(packages[0], artifact=replace(source, url="file:///x.tar.gz"))
    with pytest.raises(KlockError, match=r"^s==1 is a file that only the environment has: file:///x.tar.gz$"):
        to_pylock(lock_of(inside))
