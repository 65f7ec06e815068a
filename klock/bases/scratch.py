"""`FROM scratch`: the empty image, as an image like others. Its documents are the same everywhere, and klock's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from klock.digests import Digest, digest_of_bytes
from klock.lockfile.model import OciBlob
from klock.oci.documents import OCI_INDEX, OCI_MANIFEST, Document

__all__ = ["SCRATCH", "ScratchSource"]

SCRATCH: Final = "scratch"

_ARCHITECTURES: Final = ("386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x")
_EMPTY_ARCHIVE: Final = bytes(1024)
"""A tar archive without members: two blocks of zeros (POSIX.1-2024, pax)."""


class ScratchSource:
    """Implements `ImageSource` with one empty layer for each architecture."""

    name = SCRATCH

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        layer = self._add(_EMPTY_ARCHIVE, "application/vnd.oci.image.layer.v1.tar")
        manifests = []
        for architecture in _ARCHITECTURES:
            platform = {"architecture": architecture, "os": "linux"}
            rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
            config = self._add_json({**platform, "rootfs": rootfs}, "application/vnd.oci.image.config.v1+json")
            manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
            manifests.append({**self._add_json(manifest, OCI_MANIFEST), "platform": platform})
        self._index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()

    def root(self) -> Document:
        return Document(content=self._index, digest=digest_of_bytes(self._index), media_type=OCI_INDEX)

    def manifest(self, blob: OciBlob) -> bytes:
        return self._blobs[blob.digest]

    def blob(self, blob: OciBlob) -> Iterator[bytes]:
        yield self._blobs[blob.digest]

    def _add_json(self, document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
        return self._add(json.dumps(document).encode(), media_type)

    def _add(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = digest_of_bytes(content)
        self._blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}
