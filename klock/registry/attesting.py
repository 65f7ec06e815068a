"""Attaching to pushed images what they are made of and where they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klock.bases.oci import OCI_MANIFEST
from klock.digests import digest_of_bytes
from klock.lockfile.model import OciBlob
from klock.provenance import cyclonedx, spdx, statement
from klock.provenance.bills import bill_of
from klock.registry.made import MadeImage
from klock.registry.referrers import attach
from klock.registry.repository import WritableRepository
from klock.signing import sign_statement

if TYPE_CHECKING:
    from klock.session import Session

__all__ = ["attest_images"]


def attest_images(
    images: Sequence[MadeImage], repository: WritableRepository, session: Session, key: Path
) -> Iterator[str]:
    """Attaches to each image its bills of materials and its signed provenance; yields what was attached, in words."""
    lockfile = digest_of_bytes(session.lockfile.read_bytes())
    for image in images:
        subject = OciBlob(digest=image.digest, size=len(image.manifest), media_type=OCI_MANIFEST)
        for form, module in (("cyclonedx", cyclonedx), ("spdx", spdx)):
            text = bill_of(form, image.lock, session.store, name=session.loaded.root.name)
            attach(repository, subject, text.encode(), media_type=module.MEDIA_TYPE)
        said = statement.provenance_of(image.lock, session.store, image=image.digest, lockfile=lockfile)
        signed = sign_statement(said, key, session.environ)
        attach(repository, subject, signed, media_type=statement.MEDIA_TYPE)
        yield f"{image.lock.target}: bills of materials (CycloneDX, SPDX) and signed provenance attached"
