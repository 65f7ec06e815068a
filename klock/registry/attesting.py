"""Attaching to pushed images what they are made of and where they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from klock.digests import digest_of_bytes
from klock.lockfile.model import OciBlob
from klock.oci.documents import OCI_MANIFEST
from klock.oci.writing import WritableRepository
from klock.provenance import cyclonedx, spdx, statement
from klock.provenance.bills import bill_of
from klock.registry.made import MadeImage
from klock.registry.referrers import attach
from klock.signing import sign_statement
from klock.store import Store
from klock.targets import Target
from klock.values import dataclass

__all__ = ["Attestation", "attach_all", "attestations_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What is to be attached to one image: documents, each with its media type."""

    target: Target
    subject: OciBlob
    documents: tuple[tuple[bytes, str], ...]


def attestations_of(
    images: Sequence[MadeImage], *, lockfile: Path, name: str, key: Path, store: Store, environ: Mapping[str, str]
) -> list[Attestation]:
    """The bills of materials and the signed provenance of each image. `name` is what the bills call them, and `environ`
    has the passphrase of the key.

    Asks no registry, so a key or a package that is not there is known before anything is pushed. Raises KlockError.
    """
    locked = digest_of_bytes(lockfile.read_bytes())
    found = []
    for image in images:
        said = statement.provenance_of(image.lock, store, image=image.digest, lockfile=locked)
        signed = (sign_statement(said, key, environ), statement.MEDIA_TYPE)
        documents = []
        for form, module in (("cyclonedx", cyclonedx), ("spdx", spdx)):
            text = bill_of(form, image.lock, store, name=name)
            documents.append((text.encode(), module.MEDIA_TYPE))
        subject = OciBlob(digest=image.digest, size=len(image.manifest), media_type=OCI_MANIFEST)
        found.append(Attestation(target=image.lock.target, subject=subject, documents=(*documents, signed)))
    return found


def attach_all(attestations: Sequence[Attestation], repository: WritableRepository) -> Iterator[str]:
    """Attaches to each image what is said of it; yields what was attached, in words."""
    for each in attestations:
        for content, media_type in each.documents:
            attach(repository, each.subject, content, media_type=media_type)
        yield f"{each.target}: bills of materials (CycloneDX, SPDX) and signed provenance attached"
