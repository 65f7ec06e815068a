"""A registry as a team's cache: what a step made is found by the step's key, before the step is made again.

    step-<key>    for a step that runs programs: its layer, as `klock push` compresses it
    step-<key>    for a pip step: the wheels that its layer is composed of, here and in little time
    base-<id>     the base's own archives, or the tree of a Debian base

Each is a tag that leads to a manifest with the blobs, so no registry takes them for garbage (image-spec, manifest.md,
"Guidelines for Artifact Usage"). Nothing of it is trusted: a blob has the digest that it is asked for by, a layer must
be the locked one, and whatever is missing, damaged or something else is made as if there were no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klock.digests import Digest, hex_of
from klock.errors import FetchError, HashMismatch, KlockError
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Unreachable
from klock.layers.compression import Compression
from klock.lockfile.model import DebianLock, OciBlob, OciLock, TargetLock, layer_of
from klock.oci.artifacts import parse_address, put_artifact
from klock.oci.writing import WritableRepository, open_repository
from klock.registry.layers import (
    annotation,
    blob_of,
    fetch_blobs,
    largest_archive,
    largest_base,
    refuse_larger,
    take_layer,
)
from klock.registry.made import LAYER, Blob, base_blobs, step_blob
from klock.registry.pull import read_manifest, restore_base
from klock.registry.push import Sent, send_blobs
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.results import remember_layer
from klock.vault.inputs import inputs_of_step

if TYPE_CHECKING:
    from klock.steps.context import Context

__all__ = ["RegistryCache"]

_ARTIFACT: Final = "application/vnd.klock.cache.v1"
_OCTETS: Final = "application/octet-stream"


class RegistryCache:
    """The cache in one repository. After a registry that does not answer, nothing more is asked of it."""

    def __init__(self, written: str, *, mirrors: Mirrors, actions: str = "pull") -> None:
        """`actions`: `pull,push` for whoever fills it. Raises ImageError for what is not an address."""
        self._written = written
        self._reference = parse_address(written)
        self._mirrors = mirrors
        self._actions = actions
        self._opened: WritableRepository | None = None
        self._is_off = False

    @property
    def repository(self) -> WritableRepository:
        if self._opened is None:
            self._opened = open_repository(self._reference, mirrors=self._mirrors, actions=self._actions)
        return self._opened

    # -- taking

    def take(self, at: StepAt[Any], key: Digest, context: Context) -> bool:
        """Makes the workshop have a step's locked layer, if the cache has it; for a pip step it only brings in its
        wheels. False where the step is still to be made."""
        return self._trying(at.name, context, lambda: self._take(at, key, context))

    def take_base(self, lock: TargetLock, context: Context) -> None:
        """Brings in what the base is made of, if the cache has it."""
        self._trying("the base", context, lambda: self._take_base(lock, context))

    def _trying(self, what: str, context: Context, task: Callable[[], bool]) -> bool:
        if self._is_off or context.offline:
            return False
        try:
            return task()
        except Unreachable as error:
            context.progress.warn(f"nothing is taken from the cache {self._written}: {error.message}")
            self._is_off = True
        except HashMismatch as error:
            context.progress.warn(f"{what} is made here: the cache has something else: {error.message}")
        except KlockError as error:
            context.progress.warn(f"{what} is made here: {error.message}")
        return False

    def _take(self, at: StepAt[Any], key: Digest, context: Context) -> bool:
        layer = layer_of(at.step)
        if layer is None or kind_of(at.step).is_copied:
            return False
        descriptors = self._descriptors(_step_tag(key))
        if kind_of(at.step).is_composed:
            self._take_inputs(at, descriptors, context)
            return False
        found = [d for d in descriptors if annotation(d, LAYER) == layer.digest]
        if not found:
            return False
        blob = blob_of(found[0], self._written)
        refuse_larger(blob, largest_archive(layer), self._written)
        fetch_blobs([blob], self.repository, context)
        try:
            take_layer(blob, layer, context, source=f"{self._written} (layer {blob.digest})")
        except FetchError as error:
            raise HashMismatch(error.message, hint=error.hint) from error
        remember_layer(key, layer.digest, context.store)
        return True

    def _take_inputs(self, at: StepAt[Any], descriptors: Sequence[Any], context: Context) -> None:
        there = {blob_of(descriptor, self._written).digest for descriptor in descriptors}
        wanted = {item.digest: item for item in inputs_of_step(at) if item.digest in there}
        blobs = [OciBlob(digest=item.digest, size=item.size, media_type=_OCTETS) for item in wanted.values()]
        fetch_blobs([b for b in blobs if context.store.find_blob(b.digest) is None], self.repository, context)
        for item in wanted.values():
            if not item.permanent:
                context.store.keep_blob(item.digest)

    def _take_base(self, lock: TargetLock, context: Context) -> bool:
        base = lock.base
        if context.workshop.has_base(base.id):
            return False
        descriptors = self._descriptors(_base_tag(lock))
        if isinstance(base, OciLock):
            there = {blob_of(descriptor, self._written).digest for descriptor in descriptors}
            blobs = [OciBlob(digest=b.digest, size=b.size, media_type=b.media_type) for b in base.layers]
            missing = [b for b in blobs if b.digest in there and context.store.find_blob(b.digest) is None]
            fetch_blobs(missing, self.repository, context)
        elif descriptors:
            blob = blob_of(descriptors[0], self._written)
            refuse_larger(blob, largest_base(base), self._written)
            fetch_blobs([blob], self.repository, context)
            try:
                restore_base(base, blob, context)
            except FetchError as error:
                raise HashMismatch(error.message, hint=error.hint) from error
        return True

    def _descriptors(self, tag: str) -> list[Any]:
        """The blobs that a tag leads to; none where there is no such tag."""
        content = self.repository.find_document(tag)
        if content is None:
            return []
        descriptors = read_manifest(content, self._written).get("layers")
        return descriptors if isinstance(descriptors, list) else []

    # -- filling

    def fill(self, lock: TargetLock, keys: Sequence[Digest | None], context: Context, compression: Compression) -> Sent:
        """Makes the cache have what steps and base of `lock` are made of."""
        entries = list(_entries(lock, keys, context, compression))
        blobs = [blob for _, theirs in entries for blob in theirs]
        sent = send_blobs(blobs, self.repository, progress=context.progress)
        for tag, theirs in entries:
            put_artifact(self.repository, tag, [blob.descriptor() for blob in theirs], kind=_ARTIFACT)
        return sent


def _entries(
    lock: TargetLock, keys: Sequence[Digest | None], context: Context, compression: Compression
) -> Iterator[tuple[str, list[Blob]]]:
    """The tags of a lock, each with its blobs, in the store or still to be fetched."""
    yield _base_tag(lock), base_blobs(lock, context, compression, whole=isinstance(lock.base, DebianLock))
    for at, key in zip(context.each(lock), keys, strict=True):
        if key is None or kind_of(at.step).is_copied:
            continue
        if kind_of(at.step).is_composed:
            yield _step_tag(key), list(_input_blobs(at, context))
        else:
            yield _step_tag(key), [step_blob(at, lock, context, compression)]


def _input_blobs(at: StepAt[Any], context: Context) -> Iterator[Blob]:
    for item in {item.digest: item for item in inputs_of_step(at)}.values():
        # A source distribution is not needed where the wheel that it made is.
        if context.store.find_blob(item.digest) is not None:
            path = context.store.blob_path(item.digest)
            yield Blob(digest=item.digest, size=item.size, media_type=_OCTETS, path=_known(path), name=item.name)


def _known(path: Path) -> Callable[[], Path]:
    return lambda: path


def _step_tag(key: Digest) -> str:
    return f"step-{hex_of(key)}"


def _base_tag(lock: TargetLock) -> str:
    return f"base-{hex_of(lock.base.id)}"
