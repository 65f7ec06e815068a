"""Blobs that are not an image, kept in a registry under a tag (image-spec 1.1, "Guidelines for Artifact Usage")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from klock.digests import Digest, canonical_json, digest_of_bytes
from klock.errors import ImageError
from klock.oci.documents import OCI_MANIFEST
from klock.oci.reference import Reference, names_registry
from klock.oci.writing import Outgoing, WritableRepository, content_reader

__all__ = ["EMPTY", "EMPTY_TYPE", "parse_address", "put_artifact", "put_empty"]

_SCHEME: Final = "oci://"
EMPTY: Final = b"{}"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"


def parse_address(written: str) -> Reference:
    """The repository that `oci://REGISTRY/NAME` names. Raises ImageError."""
    rest = written.removeprefix(_SCHEME)
    reference = Reference.parse(rest)
    name = rest.partition("/")[2]
    if not written.startswith(_SCHEME) or not names_registry(rest) or ":" in name or "@" in name:
        raise ImageError(
            f"{written!r} is not the address of a repository", hint="write oci://REGISTRY/NAME, without a tag"
        )
    # Its tags are klock's own: no message names the one that a reference has without being given it.
    return replace(reference, tag=None)


def put_artifact(
    repository: WritableRepository, tag: str, descriptors: Sequence[Mapping[str, Any]], *, kind: str
) -> Digest:
    """Puts a manifest of blobs that are there, unless the tag leads to it already. `kind` is its media type."""
    empty = {"mediaType": EMPTY_TYPE, "digest": digest_of_bytes(EMPTY), "size": len(EMPTY)}
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": empty,
            "layers": [*descriptors] or [empty],
        }
    )
    digest = digest_of_bytes(manifest)
    if repository.has_manifest(tag) == digest:
        return digest
    put_empty(repository)
    return repository.put_manifest(manifest, OCI_MANIFEST, tag)


def put_empty(repository: WritableRepository) -> None:
    """Puts the blob that stands for no config."""
    digest = digest_of_bytes(EMPTY)
    if not repository.has_blob(digest, len(EMPTY)):
        repository.upload(Outgoing(digest=digest, size=len(EMPTY), read=content_reader(EMPTY)))
