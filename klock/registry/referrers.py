"""What others say of an image, attached to it in the registry (OCI distribution-spec 1.1, "Listing Referrers").

A registry that does not know referrers, such as docker-registry 2.8, has them in an index under a tag that the image's
digest gives (the same, "Referrers Tag Schema"). Two that attach at once may then lose one of theirs: it is put again by
attaching again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from klock.digests import Digest, canonical_json, digest_of_bytes, hex_of
from klock.errors import FetchError, HashMismatch
from klock.lockfile.model import OciBlob
from klock.oci.artifacts import EMPTY, EMPTY_TYPE, put_empty
from klock.oci.documents import OCI_INDEX, OCI_MANIFEST
from klock.oci.repository import next_page
from klock.oci.writing import Outgoing, WritableRepository, content_reader
from klock.registry.layers import blob_of
from klock.registry.pull import read_manifest

__all__ = ["attach", "attached"]

_LARGEST: Final = 16 << 20
"""Bytes of a document."""
_MOST: Final = 100
_MOST_DOCUMENTS: Final = 8
_MOST_PAGES: Final = 10


def attach(repository: WritableRepository, subject: OciBlob, content: bytes, *, media_type: str) -> Digest:
    """Attaches a document to the image whose manifest is `subject`; returns the digest of the attachment. The same
    document is attached once."""
    digest = digest_of_bytes(content)
    put_empty(repository)
    if not repository.has_blob(digest, len(content)):
        repository.upload(Outgoing(digest=digest, size=len(content), read=content_reader(content)))
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": media_type,
            "config": {"mediaType": EMPTY_TYPE, "digest": digest_of_bytes(EMPTY), "size": len(EMPTY)},
            "layers": [{"mediaType": media_type, "digest": digest, "size": len(content)}],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
        }
    )
    attachment = repository.put_manifest(manifest, OCI_MANIFEST, digest_of_bytes(manifest))
    if _listed(repository, subject.digest, media_type) is None:
        entry = {
            "mediaType": OCI_MANIFEST,
            "digest": attachment,
            "size": len(manifest),
            "artifactType": media_type,
        }
        others = [each for each in _in_tag(repository, subject.digest) if each.get("digest") != attachment]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*others, entry]}
        repository.put_manifest(canonical_json(index), OCI_INDEX, _tag(subject.digest))
    return attachment


def attached(
    repository: WritableRepository, subject: Digest, *, media_type: str
) -> Iterator[Callable[[], Iterator[bytes]]]:
    """What is attached to an image and of a type, at most 100 times: a call gives its documents, which have their
    digests, and whose writers nobody knows. Each call may raise FetchError, HashMismatch by itself: who may push can
    attach what is broken, and must not hide what is not."""
    entries = _listed(repository, subject, media_type)
    found = _in_tag(repository, subject) if entries is None else entries
    wanted = [entry for entry in found if entry.get("artifactType") == media_type]
    for entry in wanted[:_MOST]:
        yield functools.partial(_documents, repository, entry)


def _documents(repository: WritableRepository, entry: Mapping[str, Any]) -> Iterator[bytes]:
    manifest = read_manifest(repository.manifest(blob_of(entry, repository.name)), repository.name)
    layers = manifest.get("layers")
    for layer in layers[:_MOST_DOCUMENTS] if isinstance(layers, list) else []:
        blob = blob_of(layer, repository.name)
        if blob.size > _LARGEST:
            raise FetchError(f"{repository.name}: what is attached has {blob.size} bytes, more than klock reads")
        content = b"".join(repository.blob(blob))
        if digest_of_bytes(content) != blob.digest:
            raise HashMismatch(f"{repository.name}: the registry sent other bytes for {blob.digest}")
        yield content


def _listed(repository: WritableRepository, subject: Digest, media_type: str) -> list[dict[str, Any]] | None:
    """What the registry's own list has, by page; None when it has none. The registry may name other types, too."""
    found: list[dict[str, Any]] = []
    query = f"artifactType={quote(media_type, safe='')}"
    for _ in range(_MOST_PAGES):
        response = repository.ask("GET", f"/referrers/{subject}?{query}", (OCI_INDEX,))
        if response.status != HTTPStatus.OK:
            return found or None
        found += _entries(response.body, repository)
        following = next_page(response)
        if following is None:
            break
        query = following
    return found


def _in_tag(repository: WritableRepository, subject: Digest) -> list[dict[str, Any]]:
    content = repository.find_document(_tag(subject))
    return [] if content is None else _entries(content, repository)


def _entries(content: bytes, repository: WritableRepository) -> list[dict[str, Any]]:
    entries = read_manifest(content, repository.name).get("manifests")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _tag(subject: Digest) -> str:
    return f"sha256-{hex_of(subject)}"
