"""An environment as an image: the archive that `docker load` and `podman load` read.

The format is that of `docker save` (moby, image/spec/spec.md): a tar of the config, the layers' archives, and a list of
both. Equal environments give an equal config, whose digest is the image's id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.digests import Digest, digest_of_bytes, hex_of
from klock.forks import Tally
from klock.layers import tar
from klock.lockfile.model import TargetLock
from klock.places.containers.start_options import start_words
from klock.places.protocol import ImageConfig
from klock.values import dataclass

__all__ = ["LABEL", "LOCKED", "Archive", "ImageArchive", "image_config", "labels_of"]

LABEL: Final = "org.klock"
"""What klock's labels begin with; the rest is said in docs/engines.md."""

_EPOCH: Final = "1970-01-01T00:00:00Z"
_CHUNK: Final = 1 << 20


LOCKED: Final = f"{LABEL}.locked"
"""What the labels begin with of images that klock does not sync: they say what was locked, whatever made the image."""


def labels_of(lock: TargetLock) -> dict[str, str]:
    """The labels of such an image."""
    return {f"{LOCKED}.fingerprint": lock.fingerprint, f"{LOCKED}.target": str(lock.target)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A layer's archive on disk, perhaps compressed. `diff_id` is the digest of the plain one."""

    path: Path
    diff_id: Digest


def image_config(config: ImageConfig, labels: Mapping[str, str], diff_ids: Sequence[Digest]) -> bytes:
    """The image's config (image-spec, config.md), always the same bytes for the same arguments."""
    environment = [f"{name}={value}" for name, value in config.environment.items()]
    settings = config.settings
    entrypoint, command = start_words(settings)
    run: dict[str, object] = {
        "Env": environment,
        "Cmd": list(command),
        "WorkingDir": config.working_dir,
        "User": config.user,
        "Labels": {**dict(settings.labels), **labels},
    }
    if entrypoint:
        run["Entrypoint"] = list(entrypoint)
    if settings.ports:
        run["ExposedPorts"] = {port: {} for port in settings.ports}
    if settings.volumes:
        run["Volumes"] = {path: {} for path in settings.volumes}
    if settings.stop_signal is not None:
        run["StopSignal"] = settings.stop_signal
    if settings.shell is not None:
        run["Shell"] = list(settings.shell)
    if settings.on_build:
        run["OnBuild"] = list(settings.on_build)
    if (health := settings.health) is not None:
        times = {
            "Interval": health.interval,
            "Timeout": health.timeout,
            "StartPeriod": health.start_period,
            "StartInterval": health.start_interval,
            "Retries": health.retries,
        }
        run["Healthcheck"] = {"Test": list(health.test), **{name: value for name, value in times.items() if value}}
    document = {
        "architecture": config.architecture,
        "os": "linux",
        "created": _EPOCH,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created": _EPOCH, "created_by": "klock"} for _ in diff_ids],
    }
    if settings.author is not None:
        document["author"] = settings.author
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageArchive:
    """What is loaded: `tag` is the image's name and tag."""

    config: bytes
    layers: Sequence[Archive]
    tag: str

    @property
    def id(self) -> Digest:
        return digest_of_bytes(self.config)

    def chunks(self, tally: Tally | None = None) -> Iterator[bytes]:
        """The archive's bytes, in pieces. `tally` counts those of layers."""
        if tally is not None:
            tally.expect(sum(layer.path.stat().st_size for layer in self.layers))
        names = [f"{number}-{hex_of(layer.diff_id)}.tar" for number, layer in enumerate(self.layers)]
        config = f"{hex_of(self.id)}.json"
        listed = [{"Config": config, "RepoTags": [self.tag], "Layers": names}]
        yield from _file(config, self.config)
        for name, layer in zip(names, self.layers, strict=True):
            size = layer.path.stat().st_size
            yield tar.Member(name=name.encode(), kind=tar.FILE, mode=0o644, size=size).header()
            with open(layer.path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
                    if tally is not None:
                        tally.add(len(chunk))
            yield tar.padding(size)
        yield from _file("manifest.json", json.dumps(listed).encode())
        yield tar.END


def _file(name: str, content: bytes) -> Iterator[bytes]:
    yield tar.Member(name=name.encode(), kind=tar.FILE, mode=0o644, size=len(content)).header()
    yield content
    yield tar.padding(len(content))
