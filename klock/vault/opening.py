"""The vault that a user names: a folder, a repository of a registry, or an address of an object store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from klock.errors import StoreError
from klock.vault.folder import VaultFolder

if TYPE_CHECKING:
    from klock.fetching.mirrors import Mirrors
    from klock.vault.protocol import Vault

__all__ = ["open_vault"]

_ADDRESS: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_OF_SSH: Final = re.compile(r"[\w.+-]+@[\w.-]+:")
_BY_FOLDER: Final = ("file", "local")


def open_vault(written: str, *, mirrors: Mirrors, writes: bool) -> Vault:
    """The vault at a path, or at an address such as `oci://REGISTRY/NAME` or `s3://BUCKET/FOLDER`.

    `writes`: something may be put into it. Raises KlockError for an address that is none.
    """
    found = _ADDRESS.match(written)
    if found is None:
        if _OF_SSH.match(written):
            raise StoreError(f"{written} is not a folder, and no address of a vault", hint=_HINT)
        return VaultFolder(Path(written).absolute())
    scheme = found["scheme"].lower()
    if scheme in _BY_FOLDER:
        hint = f"write /{written[found.end() :].lstrip('/')}"
        raise StoreError(f"{written} is not a folder, and no address of a vault", hint=hint)
    if "@" in urlsplit(written).netloc:
        raise StoreError(
            f"the address of the vault has a user or password in it: {scheme}://***",
            hint="leave it out: credentials are those of `docker login`, or of the object store's own tools",
        )
    if scheme == "oci":
        from klock.vault.registry import RegistryVault

        return RegistryVault(written, mirrors=mirrors, writes=writes)
    if scheme in ("http", "https", "ssh", "sftp", "git"):
        raise StoreError(f"{written} is not a folder, and no address of a vault", hint=_HINT)
    from klock.vault.remote import RemoteVault

    return RemoteVault(written)


_HINT: Final = "name a folder (/srv/vault), a registry (oci://REGISTRY/NAME) or an object store (s3://BUCKET/FOLDER)"
