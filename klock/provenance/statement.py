"""Where an image came from, as an in-toto Statement v1 (in-toto.io/Statement/v1) with SLSA provenance v1
(slsa.dev/spec/v1.0/provenance), to be signed with the keys of `klock sign`."""

from __future__ import annotations

from typing import Any, Final

from klock.digests import Digest, canonical_json, hex_of, is_digest
from klock.documents import read_json
from klock.errors import KlockError
from klock.lockfile.model import TargetLock
from klock.provenance.ingredients import Ingredient, ingredients_of
from klock.store import Store
from klock.values import dataclass
from klock.version import __version__

__all__ = ["MEDIA_TYPE", "Provenance", "provenance_of", "read_provenance"]

MEDIA_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://slsa.dev/provenance/v1"
_BUILD: Final = "urn:klock:image:v1"
_BUILDER: Final = "urn:klock"
_LOCKFILE: Final = "kimage.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a statement says: the digests of an image's manifest and of the lockfile that it was made from."""

    image: Digest
    lockfile: Digest


def provenance_of(lock: TargetLock, store: Store, *, image: Digest, lockfile: Digest) -> bytes:
    """The statement of a target's image, always in the same bytes."""
    dependencies = [{"name": _LOCKFILE, "digest": {"sha256": hex_of(lockfile)}}]
    dependencies += [_dependency(each) for each in ingredients_of(lock, store) if each.digest]
    predicate = {
        "buildDefinition": {
            "buildType": _BUILD,
            "externalParameters": {"target": str(lock.target), "fingerprint": lock.fingerprint},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {"builder": {"id": _BUILDER, "version": {"klock": __version__}}},
    }
    subject = {"name": str(lock.target), "digest": {"sha256": hex_of(image)}}
    return canonical_json(
        {"_type": _STATEMENT, "subject": [subject], "predicateType": _PREDICATE, "predicate": predicate}
    )


def read_provenance(statement: bytes) -> Provenance:
    """What a statement says that `provenance_of` made. Raises KlockError for any other."""
    try:
        document = read_json(statement)
        (subject,) = document["subject"]
        dependencies = document["predicate"]["buildDefinition"]["resolvedDependencies"]
        (lockfile,) = [each for each in dependencies if each.get("name") == _LOCKFILE]
        image, locked = (f"sha256:{each['digest']['sha256']}" for each in (subject, lockfile))
        if document["predicateType"] != _PREDICATE or not is_digest(image) or not is_digest(locked):
            raise ValueError("it is another statement")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KlockError(f"it is not provenance that klock can read: {error}") from None
    return Provenance(image=image, lockfile=locked)


def _dependency(ingredient: Ingredient) -> dict[str, Any]:
    assert ingredient.digest is not None
    found: dict[str, Any] = {"name": ingredient.name, "digest": {"sha256": hex_of(ingredient.digest)}}
    if uri := ingredient.purl or ingredient.url:
        found["uri"] = uri
    return found
