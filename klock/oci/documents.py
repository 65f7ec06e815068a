"""The documents of an OCI image, read into values: index, manifest, config (OCI image-spec 1.1, and docker's schema 2).

Bytes in, verified model out: what these functions return is well formed, and everything in it is addressed by digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Final, TypeVar

from klock.digests import Digest, is_digest
from klock.documents import read_json
from klock.errors import FetchError
from klock.lockfile.model import HealthLock, OciBlob, SettingsLock
from klock.targets import Target
from klock.values import dataclass

__all__ = [
    "ACCEPTED_MANIFESTS",
    "SCHEMA_1",
    "Config",
    "Document",
    "Index",
    "IndexEntry",
    "Manifest",
    "parse_config",
    "parse_manifest",
    "platform_missing",
]

_T = TypeVar("_T")

_REFERENCE: Final = "vnd.docker.reference.type"
"""The annotation of what BuildKit says about an image (docs.docker.com/build/metadata/attestations)."""

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+"
"""How the media types of docker's first image format begin."""
ACCEPTED_MANIFESTS: Final = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)

_CONFIGS: Final = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
        # Types that old registries and dockers wrote; docker accepts them for images.
        "application/octet-stream",
        "application/json",
    }
)
_LAYERS: Final = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An index or a manifest, as bytes and the digest of them; `media_type` as its source calls it."""

    content: bytes
    digest: Digest
    media_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """A manifest of an index and the platform it is for: `linux/arm64` and, where it has one, `/v8`. Empty where the
    index does not say."""

    blob: OciBlob
    platform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    entries: tuple[IndexEntry, ...]

    def select(self, target: Target) -> OciBlob | None:
        """The manifest for a target's platform: the one without a variant or, for arm64, v8; else the first of it.

        If there is none, as with podman, the first entry without a platform. It may be another index; the config of the
        image says which platform it is for.
        """
        names = [target.platform, f"{target.platform}/v8"]
        names += [e.platform for e in self.entries if e.platform.startswith(f"{target.platform}/")]
        names.append("")
        by_name = {entry.platform: entry.blob for entry in reversed(self.entries)}
        return next((by_name[name] for name in names if name in by_name), None)

    @property
    def platforms(self) -> list[str]:
        return sorted({e.platform for e in self.entries if e.platform and not e.platform.startswith("unknown/")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A single-platform image; `layers` bottom first, as compressed blobs."""

    config: OciBlob
    layers: tuple[OciBlob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    platform: str
    environment: tuple[tuple[str, str], ...]
    working_dir: str
    user: str
    diff_ids: tuple[Digest, ...]
    settings: SettingsLock = field(default_factory=SettingsLock)


def parse_manifest(content: bytes, *, media_type: str | None, name: str) -> Index | Manifest:
    """Reads an index or a manifest; `media_type` is what the registry called it, `name` is for messages.

    Raises FetchError for old formats, for artifacts that are not images, and for what is not well formed.
    """
    return _reading(name, lambda: _parse_manifest(_json_object(content), media_type or "", name))


def parse_config(content: bytes, *, name: str) -> Config:
    """Reads an image config (image-spec, config.md). Raises FetchError."""
    return _reading(name, lambda: _parse_config(_json_object(content)))


def platform_missing(name: str, target: Target, available: list[str]) -> FetchError:
    return FetchError(
        f"{name} has no image for {target.platform}",
        hint=f"choose another base or target; this base is for: {', '.join(available) or 'no platform'}",
    )


def _parse_manifest(document: Mapping[str, Any], served_as: str, name: str) -> Index | Manifest:
    served_as = served_as.partition(";")[0].strip()
    media_type = document.get("mediaType") or (served_as if served_as in ACCEPTED_MANIFESTS else "")
    if document.get("schemaVersion") == 1 or SCHEMA_1 in f"{media_type} {served_as}":
        raise FetchError(
            f"{name} is in docker's old image format (schema 1), which has no content digests",
            hint="pull it and push it again with a current docker or podman",
        )
    # Both forms may leave their type out; then only one of them has `manifests` (image-spec, manifest.md, "mediaType").
    if media_type in (OCI_INDEX, DOCKER_LIST) or (not media_type and "manifests" in document):
        return Index(entries=tuple(_index_entry(entry) for entry in _list(document, "manifests")))
    if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST, ""):
        raise FetchError(f"{name} is of the unknown kind {media_type!r}, not a container image")
    config = _descriptor(document["config"])
    if config.media_type not in _CONFIGS:
        raise FetchError(f"{name} is an artifact ({config.media_type}), not a container image")
    layers = _list(document, "layers")
    for layer in layers:
        kind = str(layer["mediaType"])
        if "foreign" in kind or "nondistributable" in kind or layer.get("urls"):
            raise FetchError(
                f"{name} has a foreign layer ({kind}), which its registry does not hold",
                hint="use a base whose layers are all in its registry",
            )
        if kind not in _LAYERS:
            raise FetchError(f"{name} has a layer of the unknown kind {kind!r}")
    return Manifest(config=config, layers=tuple(_descriptor(layer) for layer in layers))


def _parse_config(document: Mapping[str, Any]) -> Config:
    run = document.get("config") or {}
    variables = [str(v).partition("=") for v in run.get("Env") or ()]
    rootfs = document["rootfs"]
    diff_ids = tuple(_list(rootfs, "diff_ids"))
    if rootfs.get("type") != "layers" or not all(is_digest(d) for d in diff_ids):
        raise ValueError("its rootfs is not a list of SHA-256 diff_ids")
    variant = f"/{document['variant']}" if document.get("variant") else ""
    return Config(
        platform=f"{document['os']}/{document['architecture']}{variant}",
        environment=tuple({name: value for name, _, value in variables if name}.items()),
        working_dir=str(run.get("WorkingDir") or "/"),
        user=str(run.get("User") or ""),
        diff_ids=diff_ids,
        settings=_settings(run),
    )


def _settings(run: Mapping[str, Any]) -> SettingsLock:
    """What a config says of how containers start (image-spec, config.md; the health check is docker's)."""
    health = run.get("Healthcheck") or {}
    return SettingsLock(
        shell=_words(run, "Shell"),
        entrypoint=_words(run, "Entrypoint"),
        command=_words(run, "Cmd"),
        labels=tuple(sorted((str(name), str(value)) for name, value in (run.get("Labels") or {}).items())),
        ports=tuple(sorted(map(str, run.get("ExposedPorts") or {}))),
        volumes=tuple(sorted(map(str, run.get("Volumes") or {}))),
        health=HealthLock(
            test=tuple(map(str, health["Test"])),
            interval=int(health.get("Interval") or 0),
            timeout=int(health.get("Timeout") or 0),
            start_period=int(health.get("StartPeriod") or 0),
            start_interval=int(health.get("StartInterval") or 0),
            retries=int(health.get("Retries") or 0),
        )
        if health.get("Test")
        else None,
        stop_signal=str(run["StopSignal"]) if run.get("StopSignal") else None,
        on_build=tuple(map(str, run.get("OnBuild") or ())),
    )


def _words(run: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    return tuple(map(str, run[key])) if run.get(key) else None


def _index_entry(entry: Mapping[str, Any]) -> IndexEntry:
    platform = entry.get("platform")
    if not platform:
        # An attestation may leave its platform out, too.
        is_image = not entry.get("artifactType") and _REFERENCE not in (entry.get("annotations") or {})
        return IndexEntry(blob=_descriptor(entry), platform="" if is_image else "unknown/unknown")
    variant = f"/{platform['variant']}" if platform.get("variant") else ""
    name = f"{platform.get('os', 'unknown')}/{platform.get('architecture', 'unknown')}{variant}"
    return IndexEntry(blob=_descriptor(entry), platform=name)


def _descriptor(value: Mapping[str, Any]) -> OciBlob:
    digest, size = value["digest"], value["size"]
    if not is_digest(digest):
        raise ValueError(f"{digest!r} is not a SHA-256 digest")
    if type(size) is not int or size < 0:
        raise ValueError(f"{size!r} is not a size")
    return OciBlob(digest=digest, size=size, media_type=str(value["mediaType"]))


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document[key]
    if not isinstance(value, list):
        raise TypeError(f"{key} is not a list")
    return value


def _json_object(content: bytes) -> Mapping[str, Any]:
    document = read_json(content)
    if not isinstance(document, dict):
        raise TypeError("it is not a JSON object")
    return document


def _reading(name: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except KeyError as error:
        raise FetchError(f"{name} is damaged: {error.args[0]!r} is missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FetchError(f"{name} is damaged: {error}") from error
