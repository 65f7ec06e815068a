"""A vault in a repository of an OCI registry: `oci://REGISTRY/NAME`.

Each input is a blob of the repository. What a lockfile needs is also in a manifest, under a tag that its digests give
(`vault-...`), so the registry's garbage collection keeps it; two projects with the same inputs have the same tag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from klock.digests import Digest, digest_of_json, hex_of
from klock.errors import FetchError, HashMismatch, StoreError
from klock.fetching.mirrors import Mirrors
from klock.lockfile.model import OciBlob
from klock.oci.artifacts import parse_address, put_artifact
from klock.oci.writing import Outgoing, file_reader, open_repository
from klock.vault.inputs import Input
from klock.vault.protocol import Count, uncounted

__all__ = ["RegistryVault"]

_KIND: Final = "application/vnd.klock.vault.v1"
_OCTETS: Final = "application/octet-stream"
_IN_A_MANIFEST: Final = 2000
"""Registries take manifests of up to 4 MiB (distribution-spec, "Pushing Manifests"); a descriptor has 150 bytes."""


class RegistryVault:
    """`klock.vault.protocol.Vault` in one repository."""

    def __init__(self, written: str, *, mirrors: Mirrors, writes: bool) -> None:
        """Opens no connection. Raises ImageError for what is not an address."""
        self.name = written
        actions = "pull,push" if writes else "pull"
        self._repository = open_repository(parse_address(written), mirrors=mirrors, actions=actions)

    def check(self) -> None:
        """A repository that is not there is an empty vault."""

    def holds(self, item: Input, *, verify: bool = False, count: Count = uncounted) -> bool:
        if not self._repository.has_blob(item.digest, item.size):
            return False
        return not verify or self._digest(item, count) == item.digest

    def has_something(self, item: Input) -> bool:
        return self._repository.has_blob(item.digest, None)

    def read(self, item: Input) -> Iterator[bytes]:
        return self._repository.blob(OciBlob(digest=item.digest, size=item.size, media_type=_OCTETS))

    def put(self, item: Input, source: Path, *, count: Count = uncounted) -> None:
        with open(source, "rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != item.digest:
            raise HashMismatch(f"{item.name}: the store's file is not {item.digest}")
        is_damaged = self.has_something(item)
        self._repository.upload(Outgoing(digest=item.digest, size=item.size, read=file_reader(source), advance=count))
        if is_damaged and self._digest(item, uncounted) != item.digest:
            raise StoreError(
                f"{self.name}: {item.name} ({item.digest}) is damaged there, and the registry does not replace it",
                hint="ask an administrator of the registry to remove that blob, or use another registry",
            )

    def remove_partial(self) -> None:
        """The registry's own affair: it removes uploads that nobody goes on with."""

    def finish(self, items: Sequence[Input]) -> None:
        wanted = sorted({item.digest: item for item in items}.values(), key=lambda item: item.digest)
        for start in range(0, len(wanted), _IN_A_MANIFEST):
            items = wanted[start : start + _IN_A_MANIFEST]
            descriptors = [{"mediaType": _OCTETS, "digest": item.digest, "size": item.size} for item in items]
            tag = f"vault-{hex_of(digest_of_json([item.digest for item in items]))}"
            put_artifact(self._repository, tag, descriptors, kind=_KIND)

    def _digest(self, item: Input, count: Count) -> Digest | None:
        """The digest of what the registry gives; None when it gives less than it says."""
        hasher = hashlib.sha256()
        try:
            for chunk in self.read(item):
                hasher.update(chunk)
                count(len(chunk))
        except FetchError:
            return None
        return f"sha256:{hasher.hexdigest()}"
