"""A bill of materials in CycloneDX 1.6 (cyclonedx.org/specification), with the library that its authors keep."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from klock.digests import hex_of
from klock.errors import KlockError
from klock.extras import missing_extra_hint
from klock.lockfile.model import TargetLock
from klock.provenance.ingredients import Ingredient, Sort
from klock.version import __version__

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

__all__ = ["MEDIA_TYPE", "to_cyclonedx"]

MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"


def to_cyclonedx(lock: TargetLock, ingredients: list[Ingredient], *, name: str) -> str:
    """The document's text, equal for equal locks: its serial number follows from the fingerprint, and it has no time.

    Raises KlockError when the library is missing.
    """
    try:
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.model.tool import ToolRepository
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError:
        raise KlockError(
            "a bill of materials needs the package cyclonedx-python-lib", hint=missing_extra_hint("sbom")
        ) from None
    root = Component(name=name, version=lock.fingerprint, type=ComponentType.CONTAINER, bom_ref="image")
    klock = Component(name="klock", version=__version__, type=ComponentType.APPLICATION, bom_ref="klock")
    metadata = BomMetaData(component=root, tools=ToolRepository(components=[klock]))
    bom = Bom(
        metadata=metadata,
        serial_number=uuid.UUID(hex_of(lock.fingerprint)[:32], version=5),
        components=[_component(number, each) for number, each in enumerate(ingredients)],
    )
    bom.register_dependency(root, bom.components)
    # The library says when: a document that says the same has the same bytes.
    bom.metadata.timestamp = None  # type: ignore[assignment]
    return f"{JsonV1Dot6(bom).output_as_string(indent=2)}\n"


def _component(number: int, ingredient: Ingredient) -> Component:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    kinds = {
        Sort.BASE: ComponentType.CONTAINER,
        Sort.DEB: ComponentType.LIBRARY,
        Sort.PYTHON: ComponentType.LIBRARY,
        Sort.DOWNLOAD: ComponentType.FILE,
        Sort.FILE: ComponentType.FILE,
    }
    digest = ingredient.digest
    licences = [LicenseFactory().make_from_string(ingredient.licence)] if ingredient.licence else []
    distribution = ExternalReferenceType.DISTRIBUTION
    return Component(
        name=ingredient.name,
        version=ingredient.version or None,
        type=kinds[ingredient.sort],
        bom_ref=f"{number}-{ingredient.sort.value}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=hex_of(digest))] if digest else [],
        purl=PackageURL.from_string(ingredient.purl) if ingredient.purl else None,
        licenses=licences,
        external_references=[ExternalReference(type=distribution, url=XsUri(ingredient.url))] if ingredient.url else [],
        properties=[Property(name="klock:kind", value=ingredient.sort.value)],
    )
