"""Pushing images: what the registry lacks is mounted or sent, then the manifests are put, the one with the tag last.

So a tag never leads to an image that is not whole, and a push that was interrupted sends only what is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from klock.digests import Digest, digest_of_bytes
from klock.errors import KlockError
from klock.lockfile.model import OciLock
from klock.oci.documents import OCI_INDEX, OCI_MANIFEST
from klock.oci.reference import Reference
from klock.oci.writing import Outgoing, WritableRepository, content_reader, file_reader
from klock.progress import Progress
from klock.registry.made import Blob, MadeImage, make_index
from klock.values import dataclass
from klock.words import counted, in_bytes

__all__ = ["Pushed", "Sent", "push_images", "refuse_another_digest", "send_blobs", "sources_of", "tag_of_target"]

T = TypeVar("T")

_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """`digest` is what the tag leads to."""

    reference: Reference
    digest: Digest
    blobs: Sent

    @property
    def name(self) -> str:
        """The image by its digest, as docker and podman take it."""
        return f"{self.reference.registry}/{self.reference.repository}@{self.digest}"

    def __str__(self) -> str:
        return str(self.blobs)


def push_images(
    images: Sequence[MadeImage],
    repository: WritableRepository,
    *,
    sources: Sequence[str] = (),
    others: Sequence[Mapping[str, Any]] = (),
    progress: Progress,
) -> Pushed:
    """Makes the repository have the images: one under the tag itself, several as an index, each with a tag of its own.

    `others` are descriptors of images that are there already and belong to the index. Blobs are mounted from the
    repositories `sources` of the same registry where it can. Raises FetchError when the registry does not take them.
    """
    tag = repository.reference.identifier
    blobs = [layer for image in images for layer in image.layers]
    done = send_blobs(blobs, repository, sources=sources, progress=progress)
    progress.begin(f"tag {repository.name}")
    for image in images:
        config = image.config
        digest = digest_of_bytes(config)
        if not repository.has_blob(digest, len(config)):
            repository.upload(Outgoing(digest=digest, size=len(config), read=content_reader(config)))
    if len(images) + len(others) == 1 and images:
        digest = repository.put_manifest(images[0].manifest, OCI_MANIFEST, tag)
    else:
        for image in images:
            repository.put_manifest(image.manifest, OCI_MANIFEST, tag_of_target(tag, image))
        digest = repository.put_manifest(make_index([*images, *others]), OCI_INDEX, tag)
    progress.done(digest)
    return Pushed(reference=repository.reference, digest=digest, blobs=done)


def tag_of_target(tag: str, image: MadeImage) -> str:
    """The tag of one target's image beside the index: `v1-linux-amd64-cuda12.4`."""
    return f"{tag[:90]}-{str(image.lock.target).replace('/', '-')}"


def sources_of(images: Sequence[MadeImage], reference: Reference) -> list[str]:
    """The repositories of the same registry that hold the bases' archives."""
    found = []
    for image in images:
        base = image.lock.base
        if isinstance(base, OciLock) and not base.reference.startswith("oci:"):
            named = Reference.parse(base.reference)
            if named.registry == reference.registry and named.repository != reference.repository:
                found.append(named.repository)
    return list(dict.fromkeys(found))


def refuse_another_digest(image: MadeImage, rule: str) -> None:
    """Raises KlockError when the lockfile has another digest of this image, made by the same rule."""
    locked = image.lock.oci_image
    if locked is not None and locked.compression == rule and locked.digest != image.digest:
        raise KlockError(
            f"the image of {image.lock.target} is not the one whose digest is locked: locked {locked.digest}, made "
            f"{image.digest}",
            hint="the lockfile was edited or merged: run `klock lock --image-digest`",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How many blobs were in the repository, mounted from another one and sent, and the bytes that were sent."""

    there: int
    mounted: int
    sent: int
    size: int

    def __str__(self) -> str:
        sent = f"{counted(self.sent, 'blob')} sent ({in_bytes(self.size)})"
        return f"{sent}, {self.mounted} mounted, {self.there} there already"


def send_blobs(
    blobs: Sequence[Blob], repository: WritableRepository, *, sources: Sequence[str] = (), progress: Progress
) -> Sent:
    """Makes the repository have blobs, each once. All threads have ended when this returns."""
    wanted = list({blob.digest: blob for blob in blobs}.values())
    held = _each(lambda blob: repository.has_blob(blob.digest, blob.size), wanted)
    missing = [blob for blob, is_held in zip(wanted, held, strict=True) if not is_held]
    mounted = _each(lambda blob: any(repository.mount(blob.digest, source) for source in sources), missing)
    left = [blob for blob, is_mounted in zip(missing, mounted, strict=True) if not is_mounted]
    # Largest first: the last one to end is then a small one.
    left.sort(key=lambda blob: (-blob.size, blob.digest))
    paths = {blob.digest: blob.path() for blob in left}
    size = sum(blob.size for blob in left)
    if left:
        progress.begin(f"push {repository.name}", total=size)
        advance = _locked(progress.advance)

        def send(blob: Blob) -> None:
            read = file_reader(paths[blob.digest])
            repository.upload(Outgoing(digest=blob.digest, size=blob.size, read=read, advance=advance))

        _each(send, left)
        progress.done(f"{len(left)} sent")
    return Sent(there=len(wanted) - len(missing), mounted=len(missing) - len(left), sent=len(left), size=size)


def _each(task: Callable[[Blob], T], blobs: Sequence[Blob]) -> list[T]:
    """The task's results in order. The first failure is raised when those that have begun are done."""
    if not blobs:
        return []
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="klock-push") as pool:
        jobs = [pool.submit(task, blob) for blob in blobs]
        try:
            return [job.result() for job in jobs]
        finally:
            for job in jobs:
                job.cancel()


def _locked(advance: Callable[[int], None]) -> Callable[[int], None]:
    guard = threading.Lock()

    def tell(amount: int) -> None:
        with guard:
            advance(amount)

    return tell
