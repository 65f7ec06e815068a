"""A locked layer out of a registry's blob: fetched by its digest, and taken only if its files are the locked ones.

Who wrote the blob, how it was compressed, and what its manifest says of it do not count. Its bytes are hostile until
they have made the layer whose digest the lockfile has: it may be broken, or unpack to more than a disk holds.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from klock.digests import is_digest
from klock.errors import FetchError
from klock.fetching.downloads import Wanted, download
from klock.lockfile.model import DebianLock, LayerLock, OciBlob

if TYPE_CHECKING:
    from klock.oci.repository import Repository
    from klock.steps.context import Context

__all__ = [
    "annotation",
    "blob_of",
    "fetch_blobs",
    "largest_archive",
    "largest_base",
    "refuse_larger",
    "take_layer",
]

_OF_AN_ENTRY: Final = 16 << 10
"""Bytes of an archive that a path may take besides its content: headers, long names, attributes."""
_ANYWAY: Final = 64 << 20
_OF_A_PACKAGE: Final = 64
"""How many times larger than a Debian package its files are at most. Most are three to ten times larger."""


def blob_of(descriptor: object, source: str) -> OciBlob:
    """A descriptor of a manifest. Raises FetchError for what is none."""
    if isinstance(descriptor, dict):
        digest, size, media_type = (descriptor.get(key) for key in ("digest", "size", "mediaType"))
        if is_digest(digest) and type(size) is int and size >= 0 and isinstance(media_type, str):
            return OciBlob(digest=str(digest), size=size, media_type=media_type)
    raise FetchError(f"{source}: its manifest is damaged: a blob has an invalid descriptor", hint="push it again")


def largest_archive(layer: LayerLock) -> int:
    """Bytes that the archive of a locked layer has at most, whoever writes it."""
    return layer.size + layer.files * _OF_AN_ENTRY + _ANYWAY


def largest_base(base: DebianLock) -> int:
    """The same of a base made of Debian packages."""
    return sum(deb.size for deb in base.debs) * _OF_A_PACKAGE + _ANYWAY


def refuse_larger(blob: OciBlob, limit: int, source: str) -> None:
    """Raises FetchError for a blob that cannot be an archive of at most `limit` bytes, however it was compressed.

    Asked before a byte of it is fetched: the registry says what size it has, and may send that much.
    """
    if blob.size > limit + limit // 64 + _ANYWAY:
        raise FetchError(
            f"{source}: refused: the blob {blob.digest} has {blob.size} bytes, more than what is locked could have",
            hint="do not trust it",
        )


def fetch_blobs(blobs: list[OciBlob], repository: Repository, context: Context) -> None:
    """Brings blobs into the store, each compared with its digest. Raises FetchError, HashMismatch."""
    wanted = [
        Wanted(
            digest=blob.digest,
            size=blob.size,
            name=f"{repository.name} (blob {blob.digest})",
            open=functools.partial(repository.blob, blob),
        )
        for blob in blobs
    ]
    download(
        wanted,
        task=f"fetch {repository.name}",
        store=context.store,
        offline=context.offline,
        progress=context.progress,
    )


def take_layer(blob: OciBlob, layer: LayerLock, context: Context, *, source: str) -> None:
    """Makes the workshop have a locked layer, from a blob that is in the store.

    Raises HashMismatch when the blob's files are not the locked ones, FetchError when it is not an archive.
    """
    archive = context.store.blob_path(blob.digest)
    context.workshop.add_layer(
        archive, layer.digest, media_type=blob.media_type, limit=largest_archive(layer), source=source
    )


def annotation(descriptor: Any, name: str) -> str | None:
    """An annotation of a descriptor or a manifest of others, if it is a text."""
    annotations = descriptor.get("annotations") if isinstance(descriptor, dict) else None
    value = annotations.get(name) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else None
