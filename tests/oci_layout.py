"""A small, real OCI image-layout folder (image-spec, image-layout.md), made by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

__all__ = ["write_layout"]


def write_layout(folder: Path, *, files: dict[str, bytes] | None = None, env: tuple[str, ...] = ()) -> Path:
    """Writes a layout of one image with one gzip layer holding `files`, for linux/amd64; those in `bin/` can be
    executed. Returns `folder`."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes) -> dict[str, object]:
        digits = hashlib.sha256(content).hexdigest()
        (blobs / digits).write_bytes(content)
        return {"digest": f"sha256:{digits}", "size": len(content)}

    tar = _tar(files or {"etc/os-release": b"NAME=tiny\n"})
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob(gzip.compress(tar, mtime=0))}
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        **blob(
            json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {"Env": ["PATH=/usr/bin:/bin", *env], "WorkingDir": "/work"},
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
                }
            ).encode()
        ),
    }
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]}
    index = {"schemaVersion": 2, "manifests": [{"mediaType": manifest_type, **blob(json.dumps(manifest).encode())}]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def _tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
