"""Bases that are OCI images: from a name that may move to an `OciLock`, and from an `OciLock` to unpacked files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.bases.layout import LayoutFolder
from klock.bases.scratch import SCRATCH, ScratchSource
from klock.bases.sources import StoredSource
from klock.digests import Digest
from klock.errors import FetchError
from klock.fetching.downloads import Wanted, download
from klock.fetching.mirrors import Mirrors
from klock.image.steps import LayoutBase, RegistryBase
from klock.lockfile.model import OciBlob, OciLayer, OciLock
from klock.oci.documents import Config, Index, Manifest, parse_config, parse_manifest, platform_missing
from klock.oci.reference import Reference
from klock.progress import Progress
from klock.store import Store
from klock.targets import Target
from klock.workshop.protocol import BaseLayer, Workshop

if TYPE_CHECKING:
    from klock.fetching.transport import Transport
    from klock.oci.repository import Repository

__all__ = ["DEFAULT_PATH", "fetch_documents", "fetch_image", "fetch_layers", "resolve_image", "source_of"]

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What docker sets where an image's config has no PATH."""

_LAYOUT: Final = "oci:"
_DEEPEST_INDEX: Final = 3


def resolve_image(
    base: RegistryBase | LayoutBase,
    *,
    target: Target,
    root: Path,
    mirrors: Mirrors,
    store: Store,
    offline: bool,
    progress: Progress,
) -> OciLock:
    """Looks the image up and reads its documents, which stay in the store; its layers are not fetched.

    The variable HOME is not yet in the environment unless the config has it: see `klock.bases.home_of`.
    Raises FetchError, ImageError.
    """
    written = _written(base)
    source = StoredSource(source_of(written, root=root, mirrors=mirrors), store=store, offline=offline)
    document = source.root()
    index: Digest | None = None
    blob = OciBlob(digest=document.digest, size=len(document.content), media_type=document.media_type or "")
    parsed = parse_manifest(document.content, media_type=document.media_type, name=source.name)
    depth = 0
    while isinstance(parsed, Index):
        index, depth = index or document.digest, depth + 1
        chosen = parsed.select(target)
        if chosen is None or depth > _DEEPEST_INDEX:
            raise platform_missing(source.name, target, parsed.platforms)
        blob = chosen
        parsed = parse_manifest(source.manifest(blob), media_type=blob.media_type, name=source.name)
    config = _read_config(parsed, source, store, progress)
    if not f"{config.platform}/".startswith(f"{target.platform}/"):
        raise platform_missing(source.name, target, [config.platform])
    return OciLock(
        reference=written,
        index_digest=index,
        manifest=blob if blob.media_type else OciBlob(digest=blob.digest, size=blob.size, media_type=_MANIFEST),
        config=parsed.config,
        layers=tuple(
            OciLayer(digest=layer.digest, size=layer.size, media_type=layer.media_type, diff_id=diff_id)
            for layer, diff_id in zip(parsed.layers, config.diff_ids, strict=True)
        ),
        environment=_with_path(config.environment),
        working_dir=config.working_dir,
        user=config.user,
        settings=config.settings if base.keeps_settings else None,
    )


_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"


def fetch_image(
    lock: OciLock, *, workshop: Workshop, root: Path, mirrors: Mirrors, store: Store, offline: bool, progress: Progress
) -> None:
    """Makes the workshop have the image's files, fetched by digest and never by tag.

    A layer is verified twice: its compressed bytes as they arrive, the archive in it (diff_id) as it is unpacked.
    """
    if workshop.has_base(lock.id):
        return
    is_told = False

    def fetch() -> None:
        nonlocal is_told
        fetch_layers(lock, root=root, mirrors=mirrors, store=store, offline=offline, progress=progress)
        progress.begin(f"{'read' if workshop.is_still else 'unpack'} {lock.reference}")
        is_told = True

    manifest = workshop.add_base(lock.id, _layers(lock, store), fetch=fetch, progress=progress)
    if is_told:  # else another process has made it meanwhile
        progress.done(f"{len(manifest)} entries")


def fetch_layers(
    lock: OciLock, *, root: Path, mirrors: Mirrors, store: Store, offline: bool, progress: Progress
) -> list[BaseLayer]:
    """Makes the store have the image's layers, compressed as they are. Raises FetchError, HashMismatch."""
    source = source_of(lock.reference, root=root, mirrors=mirrors)
    wanted = [
        Wanted(
            digest=layer.digest,
            size=layer.size,
            name=f"{lock.reference} (layer {layer.digest})",
            open=functools.partial(
                source.blob, OciBlob(digest=layer.digest, size=layer.size, media_type=layer.media_type)
            ),
        )
        for layer in lock.layers
    ]
    download(wanted, task=f"fetch {lock.reference}", store=store, offline=offline, progress=progress)
    return _layers(lock, store)


def _layers(lock: OciLock, store: Store) -> list[BaseLayer]:
    return [
        BaseLayer(
            path=store.blob_path(layer.digest), media_type=layer.media_type, diff_id=layer.diff_id, size=layer.size
        )
        for layer in lock.layers
    ]


def fetch_documents(
    lock: OciLock, *, root: Path, mirrors: Mirrors, store: Store, offline: bool, progress: Progress
) -> None:
    """Makes the store have the image's manifest and config. Replay has no need of them; who copies the image has."""
    source = StoredSource(source_of(lock.reference, root=root, mirrors=mirrors), store=store, offline=offline)
    source.manifest(lock.manifest)
    if store.find_blob(lock.config.digest) is None:
        _fetch_config(lock.config, source, store, progress)


def _read_config(manifest: Manifest, source: StoredSource, store: Store, progress: Progress) -> Config:
    blob = manifest.config
    _fetch_config(blob, source, store, progress)
    config = parse_config(store.blob_path(blob.digest).read_bytes(), name=f"{source.name} (config)")
    if len(config.diff_ids) != len(manifest.layers):
        raise FetchError(
            f"{source.name} is damaged: {len(manifest.layers)} layers, but its config has {len(config.diff_ids)}"
        )
    return config


def _fetch_config(blob: OciBlob, source: StoredSource, store: Store, progress: Progress) -> None:
    wanted = Wanted(
        digest=blob.digest, size=blob.size, name=f"{source.name} (config)", open=functools.partial(source.blob, blob)
    )
    # Offline, the source itself says what is missing.
    download([wanted], task=f"read {source.name}", store=store, offline=False, progress=progress)


def _written(base: RegistryBase | LayoutBase) -> str:
    if isinstance(base, RegistryBase):
        return base.reference
    return f"{_LAYOUT}{base.path}" + (f":{base.tag}" if base.tag else "")


def source_of(
    written: str, *, root: Path, mirrors: Mirrors, transport: Callable[[], Transport] | None = None
) -> LayoutFolder | ScratchSource | Repository:
    """The source a lockfile's `reference` names: `oci:PATH[:TAG]`, `scratch`, or a registry's reference."""
    if written == SCRATCH:
        return ScratchSource()
    if written.startswith(_LAYOUT):
        path, colon, tag = written.removeprefix(_LAYOUT).rpartition(":")
        if not colon or "/" in tag:
            path, tag = written.removeprefix(_LAYOUT), ""
        return LayoutFolder(root / path, tag=tag or None, name=written)
    from klock.fetching.transport import Transport
    from klock.oci.repository import Repository

    made = Transport(ca_bundle=mirrors.ca_bundle) if transport is None else transport()
    return Repository(Reference.parse(written), mirrors=mirrors, transport=made)


def _with_path(environment: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    variables = dict(environment)
    if not variables.get("PATH"):
        variables["PATH"] = DEFAULT_PATH
    return tuple(variables.items())
