"""Two builds of one source: a wheel is locked only when both give the same bytes.

The second begins in another second, with other process ids and a CPU less, as the second run of a step does.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from klock.digests import digest_of_bytes
from klock.errors import StepFailed
from klock.layers.differences import explain
from klock.layers.manifest import Entry, Kind, Manifest
from klock.lockfile.model import WheelArtifact
from klock.packages.archives import opened_zip, read_member
from klock.store import Store
from klock.words import listed

__all__ = ["refuse_other_wheel"]

_IN_ITSELF = "the archive itself: the times, the order or the modes of its members"


def refuse_other_wheel(name: str, first: WheelArtifact, second: WheelArtifact, store: Store) -> None:
    """Raises StepFailed, with what differs and the likely reasons, when the second build made another wheel."""
    if first == second:
        return
    paths = [store.blob_path(f"sha256:{wheel.sha256}") for wheel in (first, second)]
    manifests = [_manifest(path, wheel.name) for path, wheel in zip(paths, (first, second), strict=True)]

    def read(which: int, path: str) -> bytes | None:
        with zipfile.ZipFile(paths[which]) as archive:
            return read_member(archive, path)

    found = explain(manifests[0], manifests[1], read)
    lines = [f"{d.path} {d.what}" + (f": {d.reason}" if d.reason else "") for d in found] or [_IN_ITSELF]
    raise StepFailed(
        f"{name} is built from source, and each build makes another wheel, {first.name}:{listed(lines)}",
        hint="lock a version that has a wheel; or keep what was built now, pip_install(..., keep_layer=True)",
    )


def _manifest(path: Path, file_name: str) -> Manifest:
    with opened_zip(path, file_name) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        return Manifest(
            Entry(
                path=info.filename,
                kind=Kind.FILE,
                size=info.file_size,
                digest=digest_of_bytes(read_member(archive, info.filename)),
            )
            for info in members
            # It lists what differs, with other digests.
            if not info.filename.endswith(".dist-info/RECORD")
        )
