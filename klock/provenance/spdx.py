"""A bill of materials in SPDX 2.3 (spdx.github.io/spdx-spec/v2.3), with the library that its authors keep."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from klock.digests import hex_of
from klock.errors import KlockError
from klock.extras import missing_extra_hint
from klock.layers.normalisation import MTIME
from klock.lockfile.model import TargetLock
from klock.provenance.ingredients import Ingredient, Sort
from klock.version import __version__

if TYPE_CHECKING:
    from spdx_tools.spdx.model import Document

__all__ = ["MEDIA_TYPE", "to_spdx"]

MEDIA_TYPE: Final = "application/spdx+json"
_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_IMAGE: Final = "SPDXRef-image"


def to_spdx(lock: TargetLock, ingredients: list[Ingredient], *, name: str) -> str:
    """The document's text, equal for equal locks: SPDX wants a time, which is that of the files in layers.

    Raises KlockError when the library is missing.
    """
    try:
        from spdx_tools.spdx.writer.json import json_writer
    except ImportError:
        raise KlockError("a bill of materials needs the package spdx-tools", hint=missing_extra_hint("sbom")) from None
    output = io.StringIO()
    json_writer.write_document_to_stream(_document(lock, ingredients, name), output, validate=False)
    return f"{output.getvalue()}\n"


def _document(lock: TargetLock, ingredients: list[Ingredient], name: str) -> Document:
    from spdx_tools.spdx.model import (
        Actor,
        ActorType,
        CreationInfo,
        Document,
        Package,
        Relationship,
        RelationshipType,
        SpdxNoAssertion,
    )

    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=_DOCUMENT,
        name=name,
        document_namespace=f"urn:klock:spdx:{hex_of(lock.fingerprint)}",
        creators=[Actor(ActorType.TOOL, f"klock-{__version__}")],
        created=datetime.fromtimestamp(MTIME, UTC).replace(tzinfo=None),
    )
    image = Package(
        spdx_id=_IMAGE,
        name=name,
        version=lock.fingerprint,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
    )
    packages = [_package(number, each) for number, each in enumerate(ingredients)]
    relationships = [Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE)]
    relationships += [Relationship(_IMAGE, RelationshipType.CONTAINS, package.spdx_id) for package in packages]
    return Document(info, packages=[image, *packages], relationships=relationships)


def _package(number: int, ingredient: Ingredient) -> Any:
    from spdx_tools.spdx.model import (
        Checksum,
        ChecksumAlgorithm,
        ExternalPackageRef,
        ExternalPackageRefCategory,
        Package,
        PackagePurpose,
        SpdxNoAssertion,
    )

    purposes = {Sort.BASE: PackagePurpose.CONTAINER, Sort.DOWNLOAD: PackagePurpose.FILE, Sort.FILE: PackagePurpose.FILE}
    references = []
    if ingredient.purl:
        kind = ExternalPackageRefCategory.PACKAGE_MANAGER
        references.append(ExternalPackageRef(kind, "purl", ingredient.purl))
    digest = ingredient.digest
    return Package(
        spdx_id=f"SPDXRef-{ingredient.sort.value}-{number}",
        name=ingredient.name,
        version=ingredient.version or None,
        download_location=ingredient.url or SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, hex_of(digest))] if digest else [],
        license_declared=_licence(ingredient.licence),
        external_references=references,
        primary_package_purpose=purposes.get(ingredient.sort, PackagePurpose.LIBRARY),
    )


def _licence(text: str) -> Any:
    """What SPDX knows of it: an expression of its own licences, and nothing else."""
    from license_expression import ExpressionError, get_spdx_licensing
    from spdx_tools.spdx.model import SpdxNoAssertion

    if not text:
        return None
    licensing = get_spdx_licensing()
    try:
        parsed = licensing.parse(text, validate=True)
    except ExpressionError:
        return SpdxNoAssertion()
    return SpdxNoAssertion() if parsed is None else parsed
