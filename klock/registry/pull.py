"""Pulling an image: what the store lacks of a locked target comes from an image that `klock push` left in a registry.

The lockfile says what each layer must be. So the image may be any that has them, and nothing it says is believed. A
sync afterwards finds base and layers here, and asks nobody.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from klock.beside import Beside, Report, first_to_end, pass_on
from klock.digests import Digest
from klock.documents import read_json
from klock.errors import FetchError, HashMismatch
from klock.lockfile.model import BaseLock, DebianLock, LayerLock, OciBlob, OciLock, TargetLock, layer_of
from klock.oci.documents import OCI_INDEX
from klock.oci.repository import Repository
from klock.oci.writing import WritableRepository
from klock.registry.layers import (
    annotation,
    blob_of,
    fetch_blobs,
    largest_archive,
    largest_base,
    refuse_larger,
    take_layer,
)
from klock.registry.made import LAYER, TARGET, is_whole_base
from klock.steps.results import remember_layer
from klock.values import dataclass
from klock.words import counted, in_bytes

if TYPE_CHECKING:
    from klock.progress import Progress
    from klock.steps.context import Context

__all__ = ["Pulled", "find_image", "pull_image", "read_manifest", "restore_base"]

_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """`layers` of the steps and `base`, if it had to come, in blobs of `size` bytes that were fetched."""

    layers: int
    base: bool
    size: int

    def __str__(self) -> str:
        if not self.layers and not self.base:
            return "everything was in the store"
        parts = ["the base"] if self.base else []
        parts += [counted(self.layers, "layer")] if self.layers else []
        return f"{' and '.join(parts)}, {in_bytes(self.size)} fetched"


def pull_image(
    lock: TargetLock, repository: WritableRepository, context: Context, *, keys: Sequence[Digest | None]
) -> Pulled:
    """Makes the store have a target's base and layers. `keys` are those of its steps.

    Raises FetchError when the repository has no image of this target, HashMismatch when a layer is not the locked one.
    """
    name = repository.name
    manifest = find_image(lock, repository)
    descriptors = manifest.get("layers")
    if not isinstance(descriptors, list):
        raise FetchError(f"{name}: its manifest is damaged: it has no layers", hint="push it again")
    in_workshop = context.workshop.has_layer
    missing = [
        (number, key, layer) for number, (key, layer) in enumerate(_layers(lock, keys)) if not in_workshop(layer.digest)
    ]
    found = [_blob_of_layer(number, layer, lock, descriptors, name) for number, _, layer in missing]
    for blob, (_, _, layer) in zip(found, missing, strict=True):
        refuse_larger(blob, largest_archive(layer), name)
    base = [] if context.workshop.has_base(lock.base.id) else _base_blobs(lock, descriptors, name)
    wanted = [
        blob for blob in {b.digest: b for b in (*base, *found)}.values() if not context.store.find_blob(blob.digest)
    ]
    tasks: list[Callable[[Context], None]] = []
    if base:
        tasks.append(functools.partial(_bring_base, lock.base, base, repository))
    by_digest = {blob.digest: (blob, layer) for blob, (_, _, layer) in zip(found, missing, strict=True)}
    tasks += [functools.partial(_bring_layer, blob, layer, repository) for blob, layer in by_digest.values()]
    repository.hang_up()
    _side_by_side(tasks, context, name=name, size=sum(blob.size for blob in wanted))
    for _, key, layer in missing:
        if key is not None:
            remember_layer(key, layer.digest, context.store)
    return Pulled(layers=len(missing), base=bool(base), size=sum(blob.size for blob in wanted))


def _bring_base(base: BaseLock, blobs: list[OciBlob], repository: Repository, context: Context) -> None:
    fetch_blobs(blobs, repository, context)
    if isinstance(base, DebianLock):
        restore_base(base, blobs[0], context)


def _bring_layer(blob: OciBlob, layer: LayerLock, repository: Repository, context: Context) -> None:
    fetch_blobs([blob], repository, context)
    take_layer(blob, layer, context, source=f"{repository.name} (layer {blob.digest})")


def _side_by_side(tasks: Sequence[Callable[[Context], None]], context: Context, *, name: str, size: int) -> None:
    """Does each in a process of its own: one is unpacked while another still comes, and on every core. The first error
    ends them all; what was whole by then is kept."""
    if not tasks:
        return

    def told(_: Beside[None], report: Report) -> None:
        if report[0] in ("advance", "warn"):
            pass_on([report], context.progress)

    context.progress.begin(f"fetch and unpack {name}", total=size)
    waiting, running = list(reversed(tasks)), list[Beside[None]]()
    with ExitStack() as stack:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                task = waiting.pop()
                work = functools.partial(_work, task, context)
                running.append(stack.enter_context(Beside(work, context.progress)))
            ended = first_to_end(running, told, progress=context.progress)
            running.remove(ended)
            ended.result()
    context.progress.done("as locked")


def _work(task: Callable[[Context], None], context: Context, progress: Progress) -> None:
    task(replace(context, progress=progress))


def find_image(lock: TargetLock, repository: Repository) -> dict[str, Any]:
    """The manifest of a target's image under the reference: of an index the one that names the target. Raises
    FetchError."""
    document = repository.root()
    manifest = read_manifest(document.content, repository.name)
    if manifest.get("mediaType", document.media_type) != OCI_INDEX:
        return manifest
    entries = manifest.get("manifests")
    for entry in entries if isinstance(entries, list) else []:
        if annotation(entry, TARGET) == str(lock.target):
            return read_manifest(repository.manifest(blob_of(entry, repository.name)), repository.name)
    raise FetchError(
        f"{repository.name} has no image of {lock.target}",
        hint=f"push it: klock push --target {lock.target} {repository.name}",
    )


def restore_base(base: DebianLock, blob: OciBlob, context: Context) -> None:
    """Unpacks a base made of Debian packages, from an archive of its whole tree that is in the store."""
    from klock.workshop.protocol import BaseLayer

    context.progress.begin(f"unpack Debian {base.suite}")
    archive = context.store.blob_path(blob.digest)
    layer = BaseLayer(path=archive, media_type=blob.media_type, diff_id="", limit=largest_base(base))
    context.workshop.add_base(base.id, [layer], manifest=base.tree, progress=context.progress)
    context.progress.done("as locked")


def _layers(lock: TargetLock, keys: Sequence[Digest | None]) -> list[tuple[Digest | None, LayerLock]]:
    steps = zip(lock.steps, keys, strict=True)
    return [(key, layer) for step, key in steps if (layer := layer_of(step)) is not None]


def _base_blobs(lock: TargetLock, descriptors: list[Any], name: str) -> list[OciBlob]:
    """The base's archives, by the digests that are locked; of a Debian base the one with its tree."""
    base = lock.base
    if isinstance(base, OciLock):
        if is_whole_base(lock):
            return []  # nothing locked says what its files are: it comes from where it was locked
        return [OciBlob(digest=b.digest, size=b.size, media_type=b.media_type) for b in base.layers]
    if not descriptors:
        raise FetchError(f"{name} has no layers", hint="push it again")
    blob = blob_of(descriptors[0], name)
    refuse_larger(blob, largest_base(base), name)
    return [blob]


def _blob_of_layer(number: int, layer: LayerLock, lock: TargetLock, descriptors: list[Any], name: str) -> OciBlob:
    """The blob that says it is this layer; of an image whose annotations were lost the one that stands there."""
    for descriptor in descriptors:
        if annotation(descriptor, LAYER) == layer.digest:
            return blob_of(descriptor, name)
    below = 1 if is_whole_base(lock) or not isinstance(lock.base, OciLock) else len(lock.base.layers)
    says_which = any(annotation(descriptor, LAYER) for descriptor in descriptors)
    if says_which or below + number >= len(descriptors):
        raise HashMismatch(
            f"{name} is not the image of this lockfile: it has no layer {layer.digest}",
            hint="push the image of this lockfile: klock push",
        )
    return blob_of(descriptors[below + number], name)


def read_manifest(content: bytes, name: str) -> dict[str, Any]:
    """A manifest of others as a JSON object. Raises FetchError; `name` is for messages."""
    try:
        document = read_json(content)
    except ValueError as error:
        raise FetchError(f"{name} is damaged: {error}", hint="push it again") from None
    if not isinstance(document, dict):
        raise FetchError(f"{name} is damaged: its manifest is not a JSON object", hint="push it again")
    return document
