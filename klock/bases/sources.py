"""Where an image's documents and blobs come from, as a small interface: a registry, a layout folder, or the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from klock.digests import Digest, digest_of_json
from klock.errors import FetchError
from klock.lockfile.model import OciBlob
from klock.oci.documents import Document
from klock.store import Store

__all__ = ["ImageSource", "StoredSource"]


class ImageSource(Protocol):
    """An image somewhere. Only `root` follows a name that may move."""

    name: str

    def root(self) -> Document:
        """The index or manifest the image's name points at now. Raises FetchError."""

    def manifest(self, blob: OciBlob) -> bytes:
        """A manifest, verified. Raises FetchError, HashMismatch."""

    def blob(self, blob: OciBlob) -> Iterator[bytes]:
        """A blob's bytes, not yet verified. Raises FetchError."""


_RECORDS = "references"


class StoredSource:
    """Another source through the store: what was fetched once is not fetched again, and `offline` nothing is at all.

    What a name pointed at is recorded for the next time without a network; with a network it is always asked anew.
    """

    def __init__(self, upstream: ImageSource, *, store: Store, offline: bool) -> None:
        self.name = upstream.name
        self._upstream = upstream
        self._store = store
        self._offline = offline

    def root(self) -> Document:
        key = digest_of_json(self.name)
        if self._offline:
            record = self._store.read_record(_RECORDS, key)
            content = self._read(record["digest"]) if record else None
            if record is None or content is None:
                raise FetchError(
                    f"{self.name} is not in the store, and klock is offline",
                    hint="run the command once without --offline",
                )
            return Document(content=content, digest=record["digest"], media_type=record["media_type"])
        document = self._upstream.root()
        self._store.add_bytes(document.content, digest=document.digest, source=self.name)
        self._store.write_record(_RECORDS, key, {"digest": document.digest, "media_type": document.media_type})
        return document

    def manifest(self, blob: OciBlob) -> bytes:
        content = self._read(blob.digest)
        if content is None:
            self._refuse_offline(blob)
            content = self._upstream.manifest(blob)
            self._store.add_bytes(content, digest=blob.digest, source=self.name)
        return content

    def blob(self, blob: OciBlob) -> Iterator[bytes]:
        self._refuse_offline(blob)
        return self._upstream.blob(blob)

    def _read(self, digest: Digest) -> bytes | None:
        path = self._store.find_blob(digest)
        return path.read_bytes() if path and self._store.verify_blob(digest) else None

    def _refuse_offline(self, blob: OciBlob) -> None:
        if self._offline:
            raise FetchError(
                f"{self.name}: {blob.digest} is not in the store, and klock is offline",
                hint="run the command once without --offline",
            )
