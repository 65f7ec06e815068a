"""A locked layer out of a registry's blob: fetched by its digest, and taken only if its files are the locked ones.

Who wrote the blob, how it was compressed, and what its manifest says of it do not count. Its bytes are hostile until
they have made the layer whose digest the lockfile has: it may be broken, or unpack to more than a disk holds.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from klock.digests import is_digest
from klock.errors import FetchError
from klock.fetching.downloads import Wanted, download
from klock.layers.decompression import decompressed
from klock.lockfile.model import LayerLock, OciBlob

if TYPE_CHECKING:
    from klock.oci.repository import Repository
    from klock.steps.context import Context

__all__ = ["annotation", "blob_of", "fetch_blobs", "take_layer", "unpacked_to"]

_CHUNK: Final = 1 << 20
_OF_AN_ENTRY: Final = 16 << 10
"""Bytes of an archive that a path may take besides its content: headers, long names, attributes."""
_ANYWAY: Final = 64 << 20
_LARGEST_BASE: Final = 1 << 40


def blob_of(descriptor: object, source: str) -> OciBlob:
    """A descriptor of a manifest. Raises FetchError for what is none."""
    if isinstance(descriptor, dict):
        digest, size, media_type = (descriptor.get(key) for key in ("digest", "size", "mediaType"))
        if is_digest(digest) and type(size) is int and size >= 0 and isinstance(media_type, str):
            return OciBlob(digest=str(digest), size=size, media_type=media_type)
    raise FetchError(f"{source}: its manifest is damaged: a descriptor of a blob is none", hint="push it again")


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
    limit = layer.size + layer.files * _OF_AN_ENTRY + _ANYWAY
    with context.store.temporary_file() as archive:
        unpacked_to(archive, blob, context, source=source, limit=limit)
        context.workshop.add_layer(archive, layer.digest)


def unpacked_to(archive: Path, blob: OciBlob, context: Context, *, source: str, limit: int = _LARGEST_BASE) -> None:
    """Writes the plain archive of a blob in the store, at most `limit` bytes of it. Raises FetchError."""
    try:
        with (
            open(context.store.blob_path(blob.digest), "rb") as file,
            decompressed(file, blob.media_type, source) as plain,
            open(archive, "wb") as output,
        ):
            _copy(plain, output, limit, source)
    except (OSError, EOFError, ValueError) as error:
        # gzip's BadGzipFile is an OSError, as is a full disk, which says so itself.
        if getattr(error, "errno", None) is not None:
            raise
        raise FetchError(f"{source}: is a broken archive: {error}", hint="push it again") from error


def _copy(plain: IO[bytes], output: IO[bytes], limit: int, source: str) -> None:
    size = 0
    while chunk := plain.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise FetchError(f"{source}: refused: it unpacks to more than {limit} bytes", hint="do not trust it")
        output.write(chunk)


def annotation(descriptor: Any, name: str) -> str | None:
    """An annotation of a descriptor or a manifest of others, if it is a text."""
    annotations = descriptor.get("annotations") if isinstance(descriptor, dict) else None
    value = annotations.get(name) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else None
