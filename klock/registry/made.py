"""A locked target as an OCI image (image-spec, manifest.md and config.md): documents and blobs, equal for equal locks.

The lowest layers are the base's own archives, byte for byte, so that registries and engines share them; a base without
archives, or with too many, is one layer. Then there is one layer for each step that makes one: the files whose digest
is locked, and no others. So whoever has the lockfile can compare every file of the image with it.

What klock derives of locked files here (bytecode) is not part of it, nor is anything of this machine: engine, store,
user, time. The manifest's digest follows from the lock and from the rule of the compression.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klock.bases.scratch import SCRATCH
from klock.digests import Digest, canonical_json, digest_of_bytes, digest_of_json, is_digest
from klock.errors import EngineError
from klock.forks import Tally, written_to
from klock.layers import tar
from klock.layers.compression import Compressed, Compression
from klock.layers.normalisation import MTIME
from klock.lockfile.model import OciLayer, OciLock, ServiceLock, SettingsLock, TargetLock, layer_of
from klock.oci.documents import OCI_INDEX, OCI_MANIFEST
from klock.oci.reference import Reference
from klock.places.containers.image import image_config as config_document
from klock.places.containers.image import labels_of
from klock.places.layered import image_config
from klock.store import Store
from klock.targets import Target
from klock.values import dataclass
from klock.words import in_bytes
from klock.workshop.unpacking import counted

if TYPE_CHECKING:
    from klock.steps.at import StepAt
    from klock.steps.context import Context

__all__ = [
    "COMPRESSION",
    "CONFIG",
    "FINGERPRINT",
    "LAYER",
    "MOST_LAYERS",
    "TARGET",
    "Blob",
    "MadeImage",
    "base_blobs",
    "index_entry",
    "is_whole_base",
    "make_image",
    "make_index",
    "make_missing",
    "step_blob",
]

CONFIG: Final = "application/vnd.oci.image.config.v1+json"
FINGERPRINT: Final = "org.klock.fingerprint"
TARGET: Final = "org.klock.target"
LAYER: Final = "org.klock.layer"
"""The annotation of a step's layer: the digest that the lockfile has of it."""
COMPRESSION: Final = "org.klock.compression"

MOST_LAYERS: Final = 120
"""docker takes up to 125. A base that would make more of them is one layer."""

_MADE: Final = "compressed"
_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
_DOCKERS: Final = ("", ".gzip", ".zstd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """`path` gives the file with its bytes, brought into the store if it must be. `media_type` and `annotations` are
    the descriptor's. `diff_id` is the digest of the plain archive, `layer` that of the locked layer, if it is one."""

    digest: Digest
    size: int
    media_type: str
    path: Callable[[], Path]
    diff_id: Digest = ""
    layer: Digest | None = None
    name: str = ""

    def descriptor(self) -> dict[str, Any]:
        annotations = {"annotations": {LAYER: self.layer}} if self.layer else {}
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **annotations}


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """`layers` are from the lowest on."""

    lock: TargetLock
    config: bytes
    layers: tuple[Blob, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def manifest(self) -> bytes:
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": CONFIG, "digest": digest_of_bytes(self.config), "size": len(self.config)},
                "layers": [layer.descriptor() for layer in self.layers],
                "annotations": dict(self.annotations),
            }
        )

    @functools.cached_property
    def digest(self) -> Digest:
        return digest_of_bytes(self.manifest)

    @property
    def size(self) -> int:
        """Bytes of all layers, compressed."""
        return sum({layer.digest: layer.size for layer in self.layers}.values())


def make_image(lock: TargetLock, context: Context, compression: Compression) -> MadeImage:
    """The image of a target. Layers that are not in the store are made; the base's archives are not fetched for it.

    Raises KlockError, as for a target whose programs do not run here.
    """
    layers = base_blobs(lock, context, compression, whole=is_whole_base(lock))
    layers += [step_blob(at, lock, context, compression) for at in context.each(lock) if layer_of(at.step)]
    config = image_config(lock)
    if lock.services:
        layer, settings = _with_services(lock.services, config.settings, context, compression)
        layers.append(layer)
        config = replace(config, settings=settings)
    labels = labels_of(lock)
    return MadeImage(
        lock=lock,
        config=config_document(config, labels, [layer.diff_id for layer in layers]),
        layers=tuple(layers),
        annotations={
            FINGERPRINT: lock.fingerprint,
            TARGET: str(lock.target),
            COMPRESSION: compression.rule,
            **_base_annotations(lock),
        },
    )


def make_index(images: Sequence[MadeImage | Mapping[str, Any]]) -> bytes:
    """An index of the images of several targets (image-spec, image-index.md), or of descriptors of them.

    Who does not know klock's targets takes the first of a platform, so the one without an accelerator stands first.
    """
    manifests = [_index_entry(image) if isinstance(image, MadeImage) else dict(image) for image in images]
    return canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


def _index_entry(image: MadeImage) -> dict[str, Any]:
    return index_entry(image.lock, digest=image.digest, size=len(image.manifest))


def index_entry(lock: TargetLock, *, digest: Digest, size: int) -> dict[str, Any]:
    """The descriptor of a target's image in an index."""
    return {
        "mediaType": OCI_MANIFEST,
        "digest": digest,
        "size": size,
        "platform": {"os": lock.target.os, "architecture": lock.target.architecture},
        "annotations": {TARGET: str(lock.target), FINGERPRINT: lock.fingerprint},
    }


# -- the base


def is_whole_base(lock: TargetLock) -> bool:
    """Whether the base is one layer, made of its files, instead of its own archives."""
    return not isinstance(lock.base, OciLock) or len(lock.base.layers) + len(lock.layers) >= MOST_LAYERS


def base_blobs(lock: TargetLock, context: Context, compression: Compression, *, whole: bool) -> list[Blob]:
    """The base's own archives, or with `whole` one of its files."""
    base = lock.base
    if whole:
        write = functools.partial(_write_base, lock, context)
        return [_compressed(base.id, write, context, compression, name="the base")]
    assert isinstance(base, OciLock)
    return [
        Blob(
            digest=layer.digest,
            size=layer.size,
            media_type=_oci_type(layer.media_type),
            path=functools.partial(_fetched, base, layer, context),
            diff_id=layer.diff_id,
            name=f"{base.reference} (layer)",
        )
        for layer in base.layers
    ]


def step_blob(at: StepAt[Any], lock: TargetLock, context: Context, compression: Compression) -> Blob:
    """The layer of a step of `lock`."""
    locked = layer_of(at.step)
    assert locked is not None
    write = functools.partial(_write_layer, locked.digest, lock, context)
    return replace(_compressed(locked.digest, write, context, compression, name=at.name), layer=locked.digest)


def _oci_type(media_type: str) -> str:
    """The same kind of archive by OCI's name, where docker's own was given."""
    kind = media_type.rpartition("/")[2].removeprefix("vnd.docker.image.rootfs.diff.tar")
    return f"{_TAR}{kind.replace('.', '+')}" if kind in _DOCKERS else media_type


def _fetched(base: OciLock, layer: OciLayer, context: Context) -> Path:
    from klock.bases.images import fetch_layers

    fetch_layers(
        replace(base, layers=(layer,)),
        root=context.root,
        mirrors=context.mirrors,
        store=context.store,
        offline=context.offline,
        progress=context.progress,
    )
    return context.store.blob_path(layer.digest)


def _base_annotations(lock: TargetLock) -> dict[str, str]:
    """What the image stands upon (image-spec, annotations.md): a registry's name and digest, no path of a machine."""
    base = lock.base
    if not isinstance(base, OciLock) or base.reference.startswith("oci:") or base.reference == SCRATCH:
        return {}
    return {
        "org.opencontainers.image.base.name": str(Reference.parse(base.reference)),
        "org.opencontainers.image.base.digest": base.manifest.digest,
    }


# -- layers


def _write_base(lock: TargetLock, context: Context, archive: Path) -> None:
    if not context.workshop.has_base(lock.base.id):
        _make(replace(lock, steps=()), context)
    context.workshop.write_base(lock.base.id, archive)


def _write_layer(layer: Digest, lock: TargetLock, context: Context, archive: Path) -> None:
    if not context.workshop.has_layer(layer):
        _make(lock, context)
    context.workshop.write_layer(layer, archive)


def make_missing(lock: TargetLock, context: Context) -> None:
    """Makes the workshop have the base and all layers. Raises EngineError where the target's programs do not run."""
    if not (context.workshop.has_base(lock.base.id) and all(map(context.workshop.has_layer, lock.layers))):
        _make(lock, context)


def _make(lock: TargetLock, context: Context) -> None:
    if not Target.of_this_machine().platform == lock.target.platform:
        raise EngineError(
            f"the layers of {lock.target} are not on this machine, and its programs do not run here",
            hint=f"run this on such a machine, or name another target: --target {Target.of_this_machine()}",
        )
    assert context.make_layers is not None
    context.make_layers(lock, context)


def _compressed(
    key: Digest, write: Callable[[Path], None], context: Context, compression: Compression, *, name: str
) -> Blob:
    """The archive that `write` writes, compressed. It is in the store afterwards, and not made again while it is."""
    store = context.store
    record_key = digest_of_json([key, compression.rule])
    packed = _Packed.of_record(store.read_record(_MADE, record_key))
    if packed is None or store.find_blob(packed.digest) is None:
        context.progress.begin(f"pack {name}")
        with store.temporary_file() as archive:
            with context.progress.stage("collect", written_to(archive)):
                write(archive)
            tally = Tally("bytes", archive.stat().st_size)
            with context.progress.stage("compress", tally):
                packed = _add_compressed(archive, store, compression, name, tally)
        store.write_record(_MADE, record_key, asdict(packed))
        context.progress.done(in_bytes(packed.size))
    return Blob(
        digest=packed.digest,
        size=packed.size,
        diff_id=packed.diff_id,
        media_type=compression.media_type,
        path=functools.partial(store.blob_path, packed.digest),
        name=name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """A compressed archive in the store, as a record has it."""

    digest: Digest
    size: int
    diff_id: Digest

    @classmethod
    def of_record(cls, record: object) -> _Packed | None:
        if not isinstance(record, dict) or type(record.get("size")) is not int:
            return None
        digest, diff_id = record.get("digest"), record.get("diff_id")
        if not is_digest(digest) or not is_digest(diff_id):
            return None
        return cls(digest=str(digest), size=record["size"], diff_id=str(diff_id))


def _add_compressed(archive: Path, store: Store, compression: Compression, name: str, tally: Tally) -> _Packed:
    with open(archive, "rb") as source:
        compressed = Compressed(counted(source, tally), compression)
        digest, size = store.add_blob(compressed, source=name)
    return _Packed(digest=digest, size=size, diff_id=compressed.plain_digest)


def _with_services(
    services: Sequence[ServiceLock], settings: SettingsLock, context: Context, compression: Compression
) -> tuple[Blob, SettingsLock]:
    """A layer with the program that starts services, and settings with it as the entrypoint."""
    from klock.places.containers.start_options import start_words
    from klock.steps.service.export import START, start_script

    script = start_script(services)

    def write(archive: Path) -> None:
        parts = START.strip("/").split("/")
        with open(archive, "wb") as output:
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth]).encode() + b"/"
                output.write(tar.Member(name=folder, kind=tar.FOLDER, mode=0o755, mtime=MTIME).header())
            name = "/".join(parts).encode()
            member = tar.Member(name=name, kind=tar.FILE, mode=0o755, size=len(script), mtime=MTIME)
            output.write(member.header() + script + tar.padding(len(script)) + tar.END)

    blob = _compressed(digest_of_bytes(script), write, context, compression, name="the services")
    entrypoint, command = start_words(settings)
    return blob, replace(settings, entrypoint=(START, *entrypoint), command=tuple(command))
