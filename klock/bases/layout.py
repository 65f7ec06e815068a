"""An OCI image-layout folder as a source of images (OCI image-spec, image-layout.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from klock.digests import Digest, digest_of_bytes, hex_of, is_digest
from klock.documents import read_json
from klock.errors import FetchError, HashMismatch
from klock.lockfile.model import OciBlob
from klock.oci.documents import ACCEPTED_MANIFESTS, OCI_INDEX, Document

__all__ = ["LayoutFolder"]

_REF_NAME: Final = "org.opencontainers.image.ref.name"
_CHUNK: Final = 1 << 20


class LayoutFolder:
    """Implements `ImageSource` for a folder and a tag, which may be left out when the folder holds one image.

    `name` is how the image is written in the lockfile: `oci:PATH[:TAG]`, with the path as the user wrote it.
    """

    def __init__(self, folder: Path, *, tag: str | None, name: str) -> None:
        self.name = name
        self._folder = folder
        self._tag = tag

    def root(self) -> Document:
        document = self._read_json("oci-layout")
        if document.get("imageLayoutVersion") != "1.0.0":
            raise FetchError(f"{self.name}: the folder is an OCI layout of an unknown version")
        index = self._read_json("index.json")
        entries = [e for e in index.get("manifests") or () if isinstance(e, dict)]
        tags = [(e.get("annotations") or {}).get(_REF_NAME) for e in entries]
        chosen = [e for e, tag in zip(entries, tags, strict=True) if self._tag in (None, tag)]
        if len({e.get("digest") for e in chosen}) > 1 and not self._tag and all("platform" in e for e in chosen):
            # One image for several platforms, with the layout's own index as the image's.
            content = (self._folder / "index.json").read_bytes()
            return Document(content=content, digest=digest_of_bytes(content), media_type=OCI_INDEX)
        if len({e.get("digest") for e in chosen}) != 1:
            names = ", ".join(sorted(tag for tag in tags if tag)) or "none with a tag"
            problem = "has no such image" if not chosen else "holds several images"
            raise FetchError(
                f"{self.name}: the folder {problem}", hint=f"name one of its images with oci:PATH:TAG: {names}"
            )
        digest, media_type = chosen[0].get("digest"), chosen[0].get("mediaType")
        if not isinstance(digest, str) or not is_digest(digest) or media_type not in ACCEPTED_MANIFESTS:
            raise FetchError(f"{self.name}: the folder's index.json is damaged")
        return Document(content=self._read_blob(digest), digest=digest, media_type=media_type)

    def manifest(self, blob: OciBlob) -> bytes:
        return self._read_blob(blob.digest)

    def blob(self, blob: OciBlob) -> Iterator[bytes]:
        try:
            with open(self._blob_path(blob.digest), "rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except FileNotFoundError:
            raise self._missing(blob.digest) from None

    def _read_blob(self, digest: Digest) -> bytes:
        content = b"".join(self.blob(OciBlob(digest=digest, size=0, media_type="")))
        if digest_of_bytes(content) != digest:
            raise HashMismatch(f"{self.name}: the layout's blob {digest} is damaged: its bytes have another digest")
        return content

    def _blob_path(self, digest: Digest) -> Path:
        return self._folder / "blobs" / "sha256" / hex_of(digest)

    def _read_json(self, name: str) -> Mapping[str, Any]:
        try:
            document = read_json((self._folder / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise FetchError(
                f"{self.name}: {self._folder} is not an OCI layout folder: it has no {name}",
                hint="make one with `skopeo copy docker://NAME oci:PATH:TAG`; the path is relative to the image's file",
            ) from None
        except (OSError, ValueError) as error:
            raise FetchError(f"{self.name}: the folder's {name} is damaged: {error}") from None
        if not isinstance(document, dict):
            raise FetchError(f"{self.name}: the folder's {name} is damaged: it is not a JSON object")
        return document

    def _missing(self, digest: Digest) -> FetchError:
        return FetchError(
            f"{self.name}: the folder no longer holds {digest}",
            hint="restore the folder, or lock again with --upgrade-base",
        )
