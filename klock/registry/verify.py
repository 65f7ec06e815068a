"""Whether an image in a registry is what a lockfile says, and who vouches for it.

The digest decides, and it follows from the lockfile. So nothing need be fetched where the lockfile has it, or where the
layers are in the store. Otherwise the image's own documents say how it differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klock.digests import Digest, digest_of_bytes
from klock.errors import FetchError, KlockError
from klock.layers.compression import COMPRESSIONS
from klock.lockfile.model import DebianLock, Lockfile, TargetLock
from klock.oci.writing import WritableRepository
from klock.provenance.statement import MEDIA_TYPE, read_provenance
from klock.registry.layers import annotation
from klock.registry.made import LAYER, TARGET, MadeImage, make_image
from klock.registry.pull import read_manifest
from klock.registry.referrers import attached
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.steps.context import Context

__all__ = ["Verified", "images_of", "signer_of", "target_of", "verify_image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """`targets` whose images these are, and in `findings` what is not as locked. Where nothing here says what the
    digest should be, `is_known` is False."""

    targets: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    is_known: bool = True


def verify_image(digest: Digest, lock: Lockfile, context: Context, repository: WritableRepository | None) -> Verified:
    """Compares the image of a digest with a lockfile. Without a repository nobody is asked. Raises FetchError."""
    if (found := target_of(digest, lock, context)) is not None:
        return Verified(targets=(str(found.target),))
    if repository is None:
        is_known = all(target.oci_image or images_of(target, context) for target in lock.targets)
        return Verified(is_known=is_known, findings=("it is not the image of this lockfile",))
    found_document = repository.find_document(digest)
    if found_document is None:
        raise FetchError(
            f"there is no image {repository.name}", hint="check the address: `klock push` prints that of what it pushed"
        )
    document = read_manifest(found_document, repository.name)
    entries = document.get("manifests")
    if isinstance(entries, list) and entries:
        return _verify_index(entries, lock, context, repository)
    named = annotation(document, TARGET)
    expected = next((target for target in lock.targets if str(target.target) == named), lock.targets[0])
    made = images_of(expected, context)
    return Verified(findings=tuple(_differences(document, expected, made[0] if made else None)))


def signer_of(
    digest: Digest, lockfile: Path, keys: Sequence[Path], repository: WritableRepository
) -> tuple[str | None, str]:
    """The id of the trusted key that signed where the image of a digest came from, and why there is none."""
    from klock.signing import open_envelope

    why = "its provenance is not signed"
    for documents in attached(repository, digest, media_type=MEDIA_TYPE):
        try:
            for envelope in documents():
                payload, keyid = open_envelope(envelope, keys)
                said = read_provenance(payload)
                if said.image != digest:
                    why = "the signed provenance is of another image"
                elif said.lockfile != digest_of_bytes(lockfile.read_bytes()):
                    why = f"the signed provenance is of another {lockfile.name}"
                else:
                    return keyid, ""
        except KlockError as error:
            why = error.message
    return None, why


def target_of(digest: object, lock: Lockfile, context: Context) -> TargetLock | None:
    """The target whose image has the digest: by the lockfile, or by what the store has."""
    for target in lock.targets:
        if target.oci_image is not None and target.oci_image.digest == digest:
            return target
    for target in lock.targets:
        if any(image.digest == digest for image in images_of(target, context)):
            return target
    return None


def images_of(target: TargetLock, context: Context) -> list[MadeImage]:
    """The images of a target by every rule, if its files are in the store; nothing is run or fetched for it."""
    workshop, base = context.workshop, target.base
    is_here = all(map(workshop.has_layer, target.layers))
    if not is_here or (isinstance(base, DebianLock) and not workshop.has_base(base.id)):
        return []
    found = []
    for compression in COMPRESSIONS:
        try:
            found.append(make_image(target, context, compression))
        except KlockError:
            continue  # without that compressor the rule's image is not known
    return found


def _verify_index(entries: list[Any], lock: Lockfile, context: Context, repository: WritableRepository) -> Verified:
    targets: list[str] = []
    findings: list[str] = []
    for entry in entries:
        digest = entry.get("digest") if isinstance(entry, dict) else None
        found = target_of(digest, lock, context)
        if found is None:
            findings.append(f"the image {digest} in the index is not of this lockfile")
        else:
            targets.append(str(found.target))
    missing = [str(target.target) for target in lock.targets if str(target.target) not in targets]
    findings += [f"the index has no image of {name} as locked" for name in missing]
    return Verified(targets=tuple(targets), findings=tuple(findings))


def _differences(document: dict[str, Any], target: TargetLock, made: MadeImage | None) -> Iterator[str]:
    """How an image differs, as far as its manifest says it."""
    layers = document.get("layers")
    if not isinstance(layers, list):
        yield "it is not an image"
        return
    said = [annotation(layer, LAYER) for layer in layers]
    yield from (f"it lacks the layer {digest}" for digest in target.layers if digest not in said)
    yield from (f"it has another layer {digest}" for digest in said if digest and digest not in target.layers)
    if made is not None:
        locked = {layer.digest for layer in made.layers if layer.layer is None}
        there = {layer.get("digest") for layer in layers if isinstance(layer, dict) and not annotation(layer, LAYER)}
        yield from (f"it lacks the base's layer {digest}" for digest in sorted(locked - there))
    yield "its digest is not that of the locked image"
