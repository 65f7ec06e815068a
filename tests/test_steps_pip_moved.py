"""What the indexes say today of what is locked."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from klock.asking import Asker
from klock.lockfile.model import DebianLock, LockedPackage, PipLock, TargetLock, WheelArtifact
from klock.steps.kind import UNKNOWN_LAYER
from klock.steps.pip import KIND
from klock.targets import Target
from tests.integration.index_server import IndexServer, make_wheel
from tests.memory_workshop import memory_context


def test_a_locked_file_that_is_yanked_gone_or_another_one_is_found(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    packages = []
    with IndexServer(files) as index:
        for name in ("good", "bad", "gone", "other"):
            path = make_wheel(files, name, "1.0")
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            wheel = WheelArtifact(name=path.name, url="", size=path.stat().st_size, sha256=digest)
            packages.append(LockedPackage(name=name, version="1.0", index=index.url, artifact=wheel))
        packages.append(dataclasses.replace(packages[0], name="direct", index=None))
        index.yanked["bad-1.0-py3-none-any.whl"] = "it eats files"
        (files / "gone-1.0-py3-none-any.whl").unlink()
        make_wheel(files, "other", "1.0", requires=["good"])
        step = PipLock(requirements=(), packages=tuple(package.pin for package in packages), layer=UNKNOWN_LAYER)
        lock = TargetLock(
            target=Target.parse("linux/amd64"),
            base=DebianLock(suite="bookworm", packages=(), debs=(), tree="sha256:" + "1" * 64),
            interpreter=None,
            steps=(step,),
            packages=tuple(packages),
        )
        context = memory_context(tmp_path)
        asker = Asker(context.store, seconds=60)
        found = [(f.code.value, f.message) for f in KIND.moved(context.at(lock, 0), context, asker)]
    assert found == [
        ("moved-yanked", f"bad 1.0: bad-1.0-py3-none-any.whl was yanked from {index.url}: it eats files"),
        ("moved-gone", f"gone 1.0: gone-1.0-py3-none-any.whl is no longer in {index.url}"),
        ("moved-file", f"other 1.0: other-1.0-py3-none-any.whl has other bytes in {index.url} now"),
    ]
