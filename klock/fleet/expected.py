"""What is locked, in the form in which a container reports its files (`klock.fleet.reading_script`)."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klock.digests import Digest
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import left_out_expression
from klock.lockfile.model import Lockfile, TargetLock
from klock.places.containers.observation import OWN

if TYPE_CHECKING:
    from klock.steps.context import Context
    from klock.workshop.protocol import Workshop

__all__ = ["PASSED_OVER", "Expected", "command_to_read", "expected_of", "image_digests"]

PASSED_OVER: Final = "|".join([left_out_expression(), *map(re.escape, sorted(OWN))])
"""What is never locked, and what every container has of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """`files` are those of base and layers together, without bytecode made by klock; `layers` has each layer."""

    files: Manifest
    layers: tuple[Manifest, ...]

    @property
    def digest(self) -> Digest:
        """The digest of all files and symlinks, as the script computes it."""
        lines = sorted(_line(entry) for entry in self.files.values() if _counts(entry))
        return f"sha256:{hashlib.sha256(chr(10).join(lines).encode('ascii')).hexdigest()}"


def expected_of(lock: TargetLock, workshop: Workshop) -> Expected:
    """Base and layers must be in the workshop."""
    layers = []
    for digest in lock.layers:
        layer = workshop.layer_manifest(digest)
        assert layer is not None, "it was made"
        layers.append(layer)
    files = functools.reduce(Manifest.apply, layers, workshop.base_manifest(lock.base.id)).without_links()
    return Expected(files=files, layers=tuple(layers))


def image_digests(lock: Lockfile, locked: TargetLock, context: Context) -> frozenset[Digest]:
    """All digests by which an engine may name the image of `locked`: the image's own, one for each compression whose
    digest is known here, and that of the index of all targets, if all are known. Makes and fetches nothing."""
    from klock.digests import digest_of_bytes
    from klock.registry.made import index_entry, make_index
    from klock.registry.verify import images_of

    found = {image.digest for image in images_of(locked, context)}
    if locked.oci_image is not None:
        found.add(locked.oci_image.digest)
    known = {target: target.oci_image for target in sorted(lock.targets, key=lambda t: t.target)}
    if len(known) > 1 and all(known.values()):
        entries = {t: index_entry(t, digest=i.digest, size=i.size) for t, i in known.items() if i is not None}
        # Whoever pushes names the targets of their own machine first.
        for platform in {target.target.platform for target in known}:
            order = sorted(entries, key=lambda target: target.target.platform != platform)
            found.add(digest_of_bytes(make_index([entries[target] for target in order])))
    return frozenset(found)


def command_to_read(lock: TargetLock, *, digest: Digest | None = None, root: str = "/") -> list[str] | None:
    """The command that reads a container; None where the environment has no Python that klock knows of."""
    if lock.interpreter is None:
        return None
    from klock.fleet import reading_script

    options = [root, PASSED_OVER, *([digest] if digest else [])]
    # -I and -S: nothing that is installed has a say.
    return [lock.interpreter.path, "-I", "-S", "-c", inspect.getsource(reading_script), *options]


def _counts(entry: Entry) -> bool:
    if entry.kind not in (Kind.FILE, Kind.SYMLINK) or entry.path.endswith(".pyc"):
        return False
    return re.fullmatch(PASSED_OVER, entry.path, re.DOTALL) is None


def _line(entry: Entry) -> str:
    content = entry.digest if entry.kind is Kind.FILE else entry.target
    return json.dumps([entry.path, entry.kind.value, entry.mode, entry.uid, entry.gid, entry.size, content])
